//! Idle connections and permits.
