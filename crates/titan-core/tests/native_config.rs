//! The two sides of the configuration can't drift apart: what the control plane's tests lower, this side must read. The fixture is written by
//! `tests/config/lower.test.ts` from a configuration that has every block.

use titan_core::config::raw::Config;

#[test]
fn the_control_planes_output_is_read() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/config/fixtures/native.json")).unwrap();
    let config: Config = serde_json::from_str(&text).unwrap();
    assert_eq!(config.listeners.len(), 4);
    assert_eq!(config.routes.len(), 8);
    assert!(config.forwarding.via.is_none(), "an empty via means none, not the default");
    for index in config.global.iter().chain(config.routes.iter().flat_map(|route| &route.policies)) {
        assert!(*index < config.policies.len());
    }
}
