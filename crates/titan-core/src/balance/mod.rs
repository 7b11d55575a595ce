//! Choosing an endpoint.
