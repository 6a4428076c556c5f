//! The firmware under a data cache that knows nothing of DMA.

mod common;

use common::sticks::{image, tools, varied};
use dolphin_tests::{Emulator, Run};

/// A whole run of the product: every file of a stick arrives, and no line is out of step.
#[test]
fn boot_dol_keeps_the_cache_in_step() {
    let tools = tools();
    let image = image(&varied(16));
    let outcome = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .stick(image.path())
        .model_cache()
        .success(&tools)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let cache = outcome.cache.as_ref().unwrap();
    println!("{cache:?}\n{outcome}");
    // The model saw what there is to see.
    assert!(cache.transferred > 100_000 && cache.invalidated >= cache.transferred / 2);
}
