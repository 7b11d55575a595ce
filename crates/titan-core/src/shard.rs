//! One thread, one current-thread runtime: its listeners, pools, timers and counters.
