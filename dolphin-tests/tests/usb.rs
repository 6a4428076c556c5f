//! The driver against QEMU's controller and sticks, by programs of the test image that use it directly.

mod common;

use common::sticks::tools;
use dolphin_tests::{Emulator, Outcome, Run};
use std::path::Path;
use tempfile::NamedTempFile;

/// A stick of zeros.
fn blank(bytes: u64) -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(bytes).unwrap();
    image
}

fn program(test: &str, stick: &Path) -> Run {
    Run::new(Emulator::Qemu, tools().program("selftest").unwrap())
        .argument(format!("test={test}"))
        .stick(stick)
        .audit_dma()
}

fn passes(run: &Run) -> Outcome {
    run.success(&tools())
        .unwrap_or_else(|failure| panic!("{failure}"))
}

/// The word at an index of what `usb-write` writes.
fn word(index: u32) -> u32 {
    index.wrapping_mul(0x9E37_79B9) ^ index >> 5
}

#[test]
fn the_host_finds_16_mib_as_the_guest_wrote_them_and_nothing_else() {
    let image = blank(20 << 20);
    let outcome = passes(&program("usb-write", image.path()).model_cache());
    let cache = outcome.cache.as_ref().unwrap();
    assert!(cache.cleaned >= (16 << 20) / 32, "{outcome}");
    let bytes = std::fs::read(image.path()).unwrap();
    let (written, rest) = bytes.split_at(16 << 20);
    let wrong = written
        .chunks_exact(4)
        .zip(0..)
        .find(|(bytes, index)| *bytes != word(*index).to_be_bytes());
    assert_eq!(wrong, None);
    assert!(rest.iter().all(|&byte| byte == 0));
}

/// The trace counts; that no byte is copied, and that each command is three transfers, the guest checks itself.
#[test]
fn a_sequential_read_takes_no_doorbell_and_two_interrupts_for_a_command() {
    let image = blank(20 << 20);
    let program = program("usb-cost-direct", image.path()).argument("command=131072");
    let outcome = passes(&program.count_instructions());
    assert_eq!(outcome.windows.len(), 128, "{outcome}");
    for window in &outcome.windows {
        // 128 KiB: wrapper, seven descriptors of 20 KiB at most, status.
        assert_eq!(window.qtds, 9);
        assert_eq!(window.doorbells, 0);
        // The wrapper's, and one for data and status.
        assert_eq!(window.interrupts, 2);
    }
}

/// The same with commands that fill their transfer descriptors, and with copies to MEM1.
#[test]
fn large_commands_fill_their_transfer_descriptors() {
    let image = blank(20 << 20);
    // 25 commands of 32 full descriptors fit into 16 MiB.
    for path in ["direct", "bounced"] {
        let program = program(&format!("usb-cost-{path}"), image.path()).argument("command=655360");
        let outcome = passes(&program.count_instructions());
        assert_eq!(outcome.windows.len(), 25, "{outcome}");
        let qtds = outcome.windows.iter().map(|window| window.qtds);
        assert!(qtds.eq([32 + 2; 25]), "{path}");
    }
}
