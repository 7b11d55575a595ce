//! Starts the shards, publishes snapshots, drains.
