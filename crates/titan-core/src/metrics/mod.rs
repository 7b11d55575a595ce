//! Counters, histograms and the access log.
