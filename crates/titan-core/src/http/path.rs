//! The one path normalisation.
