//! The Node.js binding.
