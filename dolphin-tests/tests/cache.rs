//! The firmware under a data cache that knows nothing of DMA.

mod common;

use common::sticks::{image, tools, varied};
use dolphin_tests::{CacheRule, Emulator, Outcome, Run};
use std::collections::HashSet;
use tempfile::NamedTempFile;

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
    println!("{cache:?}");
    // The model saw what there is to see.
    assert!(cache.transferred > 100_000 && cache.invalidated >= cache.transferred / 2);
}

/// Every kind of transfer once, in the test image, without the cache operations of one step.
fn without(step: &str) -> Outcome {
    let tools = tools();
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    Run::new(Emulator::Qemu, tools.program("selftest").unwrap())
        .argument("test=usb-cache")
        .argument(format!("omit={step}"))
        .stick(image.path())
        .model_cache()
        .to_end(&tools)
        .unwrap()
}

/// The model finds that a step is left out, and calls it by its name; nothing else is wrong with the run.
fn is_found(step: &str, rule: CacheRule) {
    let outcome = without(step);
    let cache = outcome.cache.as_ref().unwrap();
    let rules: HashSet<_> = cache.violations.iter().map(|found| found.rule).collect();
    assert_eq!(rules, HashSet::from([rule]), "{outcome}");
    assert_eq!(outcome.status, Some(0), "{outcome}");
    let other =
        |reason: &&String| !reason.starts_with("  ") && !reason.contains("breaches of cache");
    let reasons = outcome.reasons();
    assert_eq!(reasons.iter().find(other), None, "{outcome}");
}

/// The control: with all steps, nothing is found.
#[test]
fn every_kind_of_transfer_keeps_the_cache_in_step() {
    without("nothing").check().unwrap();
}

#[test]
fn a_direct_buffer_that_is_not_cleaned_before_it_is_sent_is_found() {
    is_found("direct-out-clean", CacheRule::ReadOfModified);
}

#[test]
fn a_direct_buffer_that_is_not_flushed_before_it_is_received_into_is_found() {
    is_found("direct-in-flush", CacheRule::WriteUnderModified);
}

#[test]
fn a_direct_buffer_that_is_not_invalidated_after_it_was_received_into_is_found() {
    is_found("direct-in-invalidate", CacheRule::NotInvalidated);
}

#[test]
fn a_bounced_copy_that_is_not_cleaned_before_it_is_sent_is_found() {
    is_found("bounced-out-clean", CacheRule::ReadOfModified);
}

#[test]
fn bounce_memory_that_is_not_invalidated_before_it_is_received_into_is_found() {
    is_found(
        "bounced-in-invalidate-before",
        CacheRule::WriteUnderModified,
    );
}

#[test]
fn bounce_memory_that_is_not_invalidated_after_it_was_received_into_is_found() {
    is_found("bounced-in-invalidate-after", CacheRule::NotInvalidated);
}

#[test]
fn descriptor_memory_that_is_not_flushed_before_it_is_used_uncached_is_found() {
    is_found("descriptors-flush", CacheRule::UncachedOfModified);
}

#[test]
fn descriptors_that_are_written_through_the_cache_are_found() {
    is_found("descriptors-uncached", CacheRule::DescriptorModified);
}
