//! Tells the linker how an addon for Node.js is made on this platform.

fn main() {
    napi_build::setup();
}
