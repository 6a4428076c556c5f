//! End to end: a stick image made by mtools, the firmware in QEMU, QEMU's own EHCI controller and stick. What the firmware
//! says about the files must be what the host knows about them, and no DMA may leave MEM2.

mod common;

use common::sticks::{bounce, events, files_of, image, read_files, tools, varied};
use dolphin_tests::{Emulator, Outcome, Run, StickImage, noise};
use object::{Object, ObjectSymbol};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tempfile::NamedTempFile;
use wiistick::report::{ControllerKind, Event, VolumeKind};

fn boot(image: &NamedTempFile) -> Outcome {
    let tools = tools();
    Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .argument("read-only")
        .read_only_stick(image.path())
        .audit_dma()
        .success(&tools)
        .unwrap_or_else(|failure| panic!("{failure}"))
}

/// Every file arrives, through bounce buffers in MEM2 and nothing else.
fn every_file_arrives(stick: &StickImage, kind: VolumeKind) {
    let outcome = boot(&image(stick));
    assert_eq!(read_files(&outcome), files_of(stick), "{outcome}");
    assert!(
        events(&outcome).iter().any(|event| matches!(
            event,
            Event::Volume { kind: found, first_block, label: Some(label), .. }
                if *found == kind && *first_block == stick.first_block() && label == "WIISTICK"
        )),
        "no such volume\n{outcome}"
    );
    let audit = outcome.audit.as_ref().unwrap();
    assert_eq!(audit.outside_mem2, 0);
    let total: usize = stick.files().map(|(_, contents)| contents.len()).sum();
    assert!(audit.transfers as usize >= total / 20_480, "{outcome}");
    let bounce = bounce(&outcome);
    assert!(bounce.bounced_bytes as usize >= total, "{bounce:?}");
    assert_eq!((bounce.live, bounce.quarantined, bounce.refused), (0, 0, 0));
    assert_eq!(bounce.direct_bytes, 0);
    assert!((0x1000_0000..0x1400_0000).contains(&bounce.pool_base));
}

/// The application's buffers lie in MEM1, where the controller's DMA must not go.
#[test]
fn the_applications_buffers_are_in_mem1() {
    let elf = std::fs::read(tools().program("boot").unwrap().elf.unwrap()).unwrap();
    let elf = object::File::parse(&*elf).unwrap();
    let buffers: Vec<u64> = elf
        .symbols()
        .filter(|symbol| {
            let name = symbol.name().unwrap_or_default();
            name.contains("bays") && symbol.size() >= 128 * 1024
        })
        .map(|symbol| symbol.address())
        .collect();
    assert_eq!(buffers.len(), 1, "the buffers of all bays");
    for address in buffers {
        assert!(
            (0x8000_4000..0x8180_0000).contains(&address),
            "{address:#x}"
        );
    }
}

/// One file, untouched, boots in both emulators, and both runs end by themselves within 20 s.
#[test]
fn the_same_boot_dol_runs_in_both_emulators() {
    let tools = tools();
    let program = tools.program("boot").unwrap();
    let digest = || Sha256::digest(std::fs::read(&program.dol).unwrap());
    let before = digest();
    for emulator in [Emulator::Qemu, Emulator::Dolphin] {
        let outcome = Run::new(emulator, program.clone())
            .success(&tools)
            .unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(outcome.status, Some(0));
        assert!(outcome.elapsed.as_secs() < 20, "{outcome}");
    }
    assert_eq!(digest(), before);
}

#[test]
fn every_file_of_a_fat32_stick_arrives() {
    every_file_arrives(&varied(32), VolumeKind::Fat32);
}

#[test]
fn every_file_of_a_fat16_stick_arrives() {
    every_file_arrives(&varied(16), VolumeKind::Fat16);
}

#[test]
fn the_controller_is_ehci_with_little_endian_registers_here() {
    let outcome = boot(&image(&StickImage::new(16, 24).file("A", b"a".to_vec())));
    let controller = events(&outcome).into_iter().find_map(|event| match event {
        Event::Controller {
            kind,
            ports,
            registers,
        } => Some((kind, ports, registers)),
        _ => None,
    });
    assert_eq!(
        controller,
        Some((
            ControllerKind::Ehci,
            6,
            Some(wiistick::report::RegisterOrder::Little)
        ))
    );
}

#[test]
fn the_same_image_without_a_stick_ends_well_and_says_so() {
    let tools = tools();
    let outcome = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .success(&tools)
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        outcome
            .frames
            .iter()
            .any(|frame| frame.message.contains("no stick")),
        "{outcome}"
    );
}

/// QEMU's memory starts as zeros: what is still zero at the end of the stack was never used.
#[test]
fn a_quarter_of_the_stack_is_never_used() {
    let outcome = boot(&image(&varied(32)));
    let elf = std::fs::read(tools().program("boot").unwrap().elf.unwrap()).unwrap();
    let elf = object::File::parse(&*elf).unwrap();
    let start = elf.symbol_by_name("__stack_start").unwrap().address() as u32 & 0x3FFF_FFFF;
    let mut stack = vec![0; 0x2_0000];
    let memory = outcome.memory.as_ref().unwrap();
    memory.read(start, &mut stack).unwrap();
    let unused = stack.iter().position(|&byte| byte != 0).unwrap();
    println!("stack used: {} bytes", stack.len() - unused);
    assert!(unused >= stack.len() / 4, "only {unused} bytes are left");
}

/// Runs the job in the test image, with a pool that the image chooses.
fn referee(test: &str) -> Outcome {
    let tools = tools();
    let stick = image(&varied(16));
    Run::new(Emulator::Qemu, tools.program("selftest").unwrap())
        .argument(format!("test={test}"))
        .read_only_stick(stick.path())
        .audit_dma()
        .to_end(&tools)
        .unwrap()
}

/// The referee bites: the same job with its pool in MEM1, so without bouncing, fails, and the audit says why.
#[test]
fn without_bouncing_the_same_run_fails() {
    let outcome = referee("stick-with-a-pool-in-mem2");
    assert_eq!(outcome.reasons(), Vec::<String>::new(), "{outcome}");
    assert_eq!(read_files(&outcome), files_of(&varied(16)));

    let outcome = referee("stick-without-bouncing");
    assert!(!outcome.reasons().is_empty(), "{outcome}");
    assert!(read_files(&outcome).is_empty(), "{outcome}");
    let audit = outcome.audit.as_ref().unwrap();
    assert!(audit.outside_mem2 > 0, "{outcome}");
}

/// Enumeration, and every byte of a file that is as large as all of MEM2.
#[test]
fn sixty_four_mib_arrive() {
    let stick = StickImage::new(32, 72).file("BIG.BIN", noise("64 MiB", 64 << 20));
    let image = image(&stick);
    let outcome = boot(&image);
    assert_eq!(read_files(&outcome), files_of(&stick), "{outcome}");
    let audit = outcome.audit.as_ref().unwrap();
    assert!(audit.bytes >= 64 << 20 && audit.outside_mem2 == 0);
}

/// Two sticks at once: the job works on one while it works on the other.
#[test]
fn two_sticks_are_read_at_the_same_time() {
    let sticks = ["left", "right"].map(|name| {
        StickImage::new(16, 24)
            .file(&format!("{name}.bin"), noise(name, 6_000_000))
            .file(&format!("{name} too.bin"), noise("too", 1_000_000))
    });
    let images = [0, 1].map(|index: usize| image(&sticks[index]));
    let tools = tools();
    let outcome = images
        .iter()
        .fold(
            Run::new(Emulator::Qemu, tools.program("boot").unwrap())
                .argument("read-only")
                .audit_dma(),
            |run, image| run.read_only_stick(image.path()),
        )
        .success(&tools)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let mut expected = files_of(&sticks[0]);
    expected.extend(files_of(&sticks[1]));
    assert_eq!(read_files(&outcome), expected, "{outcome}");
    // A job that took one after the other would meet the second stick when it is done with the first.
    let all = events(&outcome);
    let done = all
        .iter()
        .position(|event| matches!(event, Event::StickDone { .. }));
    let met = all
        .iter()
        .rposition(|event| matches!(event, Event::Volume { .. }));
    assert!(met < done, "{outcome}");
}

/// A full-speed hub is nothing for EHCI: its port goes to the companion, a message says so, and the stick beside it works.
#[test]
fn a_full_speed_hub_is_left_to_the_companion() {
    let stick = varied(16);
    let image = image(&stick);
    let tools = tools();
    let outcome = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .argument("read-only")
        .companions()
        .qemu_arguments(["-device", "usb-hub,bus=ehci.0,port=2"])
        .read_only_stick(image.path())
        .audit_dma()
        .success(&tools)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let told = "port 1: a Full-speed device was handed to the companion controller; left alone";
    let mut messages = outcome.frames.iter().map(|frame| &frame.message);
    assert!(messages.any(|message| message == told), "{outcome}");
    assert_eq!(read_files(&outcome), files_of(&stick));
}

/// A stick is pulled while it is read, and another one plugged in: the first ends in an error, the second is read.
#[test]
fn a_stick_that_is_pulled_in_the_middle_makes_room_for_another() {
    let first = StickImage::new(32, 72).file("BIG.BIN", noise("pulled", 60 << 20));
    let second = varied(16);
    let images = [image(&first), image(&second)];
    let tools = tools();
    let run = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .argument("read-only")
        .read_only_stick(images[0].path())
        .later_stick(images[1].path())
        .audit_dma()
        // What the controller's model says of a queue whose device is gone.
        .tolerate("no device attached to queue")
        .time_limit(Duration::from_secs(60));
    let mut machine = run.start(&tools).unwrap();
    while let Some(frame) = machine.next_frame().unwrap() {
        if matches!(frame.event(), Some(Event::Progress { bytes, .. }) if bytes > 0) {
            break;
        }
    }
    machine.unplug(0).unwrap();
    machine.plug(1).unwrap();
    let outcome = machine.to_end().unwrap();
    let errors: Vec<_> = events(&outcome)
        .into_iter()
        .filter_map(|event| match event {
            Event::Error { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert!(
        errors.iter().any(|error| error.contains("unplugged")),
        "{outcome}"
    );
    assert_eq!(
        outcome.reasons(),
        ["the guest ended with status 1"],
        "{outcome}"
    );
    let read = read_files(&outcome);
    let missing: Vec<_> = files_of(&second)
        .into_iter()
        .filter(|(path, file)| read.get(path) != Some(file))
        .collect();
    assert_eq!(missing, [], "{outcome}");
    let bounce = bounce(&outcome);
    assert_eq!((bounce.live, bounce.quarantined), (0, 0));
}

/// A medium error comes up as sense data, with the file and the block; the other files arrive.
#[test]
fn an_io_error_of_the_medium_is_told_with_its_sense_data() {
    let damaged = noise("damaged", 300_000);
    let stick = StickImage::new(16, 24)
        .file("before.bin", noise("before", 50_000))
        .file("damaged.bin", damaged.clone())
        .file("after.bin", noise("after", 50_000));
    let image = image(&stick);
    let bytes = std::fs::read(image.path()).unwrap();
    let start = bytes.chunks(512).position(|block| *block == damaged[..512]);
    let block = start.unwrap() + 300;
    let tools = tools();
    let file = image.path().display();
    let outcome = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .argument("read-only")
        .qemu_arguments([
            "-blockdev",
            &format!("driver=file,filename={file},node-name=file,read-only=on"),
            "-blockdev",
            &format!(
                "driver=blkdebug,image=file,node-name=debug,read-only=on,\
                 inject-error.0.event=read_aio,inject-error.0.errno=61,inject-error.0.sector={block}"
            ),
            "-blockdev",
            "driver=raw,file=debug,node-name=bad,read-only=on",
            "-device",
            "usb-storage,bus=ehci.0,drive=bad",
        ])
        .audit_dma()
        .to_end(&tools)
        .unwrap();
    let error = events(&outcome).into_iter().find_map(|event| match event {
        Event::Error {
            path,
            block,
            message,
            ..
        } => Some((path, block, message)),
        _ => None,
    });
    let Some((Some(path), Some(at), message)) = error else {
        panic!("no error names a file and a block\n{outcome}");
    };
    assert_eq!((&*path, at), ("/damaged.bin", block as u64), "{outcome}");
    // What QEMU's disk makes of ENODATA, the host's word for unreadable blocks: medium error, unrecovered read error.
    assert!(message.contains("(sense 3/11/00)"), "{message}");
    let mut expected = files_of(&stick);
    expected.remove("/damaged.bin");
    assert_eq!(read_files(&outcome), expected, "{outcome}");
}
