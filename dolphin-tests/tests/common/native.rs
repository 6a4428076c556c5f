//! The firmware's job on this machine, over an image file: the same code, no emulator. And what other programs say about
//! the image.

use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use wiistick::block::{BlockDevice, BlockError, Counters, check_range};
use wiistick::disk::{LINE, MAX_LINES};
use wiistick::job::{CHECK_BYTES, Check, Identity, Job, Task, Workspace};
use wiistick::report::{Event, RECORD_BUFFER, Sink};
use wiistick::volume::Stamp;

/// What is written in these tests.
pub const CHECK: Check = Check {
    bytes: CHECK_BYTES,
    seed: 1,
    keep: true,
    stamp: Stamp::NONE,
};

/// An image file as a stick.
pub struct FileStick {
    file: File,
    blocks: u64,
    pub counters: Counters,
}

const BLOCK: u32 = 512;

impl FileStick {
    pub fn open(image: &Path) -> Self {
        let file = File::options().read(true).write(true).open(image).unwrap();
        let blocks = file.metadata().unwrap().len() / u64::from(BLOCK);
        Self {
            file,
            blocks,
            counters: Counters::default(),
        }
    }
}

impl BlockDevice for FileStick {
    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn blocks(&self) -> u64 {
        self.blocks
    }

    async fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        check_range(BLOCK, self.blocks, first, buffer.len())?;
        self.counters.commands += 1;
        self.counters.bytes_read += buffer.len() as u64;
        let at = first * u64::from(BLOCK);
        self.file.read_exact_at(buffer, at).unwrap();
        Ok(())
    }

    async fn write(&mut self, first: u64, buffer: &[u8]) -> Result<(), BlockError> {
        check_range(BLOCK, self.blocks, first, buffer.len())?;
        self.counters.commands += 1;
        self.counters.bytes_written += buffer.len() as u64;
        let at = first * u64::from(BLOCK);
        self.file.write_all_at(buffer, at).unwrap();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BlockError> {
        self.counters.commands += 1;
        Ok(())
    }

    async fn is_write_protected(&mut self) -> Result<bool, BlockError> {
        Ok(false)
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

/// Remembers events as the host tools see them.
#[derive(Default)]
struct Memory(Vec<Event<String>>);

impl Sink for Memory {
    fn event(&mut self, event: &Event<&str>) {
        let mut buffer = vec![0; RECORD_BUFFER];
        let json = event.to_json(&mut buffer).unwrap();
        self.0.push(serde_json::from_str(json).unwrap());
    }
}

/// What a run said.
pub struct Said {
    pub events: Vec<Event<String>>,
}

/// Runs a job over an image; panics if it does not come to an end.
pub fn run(image: &Path, task: Task) -> Said {
    const LIMIT: Duration = Duration::from_secs(120);
    let (send, receive) = mpsc::channel();
    let image = image.to_owned();
    let name = image.display().to_string();
    std::thread::spawn(move || {
        // Gone only if the other side has given up.
        let _ = send.send(run_here(&image, task));
    });
    receive
        .recv_timeout(LIMIT)
        .unwrap_or_else(|error| panic!("the job over {name} did not end well: {error}"))
}

fn run_here(image: &Path, task: Task) -> Said {
    fn clock() -> u64 {
        thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });
        NOW.with(|now| {
            now.set(now.get() + 1000);
            now.get()
        })
    }
    let mut sink = Memory::default();
    let (mut buffer, mut cache) = (vec![0; 128 * 1024], vec![0; LINE * MAX_LINES]);
    let mut work = Box::new(Workspace::new());
    let mut job = Job {
        sink: &mut sink,
        buffer: &mut buffer,
        cache: &mut cache,
        work: &mut work,
        task,
        clock,
    };
    let identity = Identity {
        stick: 0,
        port: 0,
        lun: 0,
        vendor_id: 0,
        product_id: 0,
        vendor: "",
        product: "",
    };
    {
        let run = std::pin::pin!(job.run(FileStick::open(image), &identity));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // Files are always ready: it never waits.
        assert!(run.poll(&mut context).is_ready(), "the job waits");
    }
    Said { events: sink.0 }
}

/// Path to length and digest.
pub type Files = BTreeMap<String, (u64, String)>;

impl Said {
    pub fn files(&self) -> Files {
        let files = self.events.iter().filter_map(|event| match event {
            Event::File {
                path,
                bytes,
                sha256,
                ..
            } => Some((path.clone(), (*bytes, sha256.to_string()))),
            _ => None,
        });
        files.collect()
    }

    pub fn errors(&self) -> Vec<String> {
        let errors = self.events.iter().filter_map(|event| match event {
            Event::Error { path, message, .. } => Some(format!(
                "{}: {message}",
                path.as_deref().unwrap_or("the stick")
            )),
            _ => None,
        });
        errors.collect()
    }

    /// Length and digest of the file that was written and verified.
    pub fn written(&self) -> Option<(u64, String)> {
        self.events.iter().find_map(|event| match event {
            Event::Written {
                bytes,
                sha256,
                verified: true,
                ..
            } => Some((*bytes, sha256.to_string())),
            _ => None,
        })
    }

    pub fn commands(&self) -> u64 {
        let commands = self.events.iter().find_map(|event| match event {
            Event::StickDone { scsi_commands, .. } => Some(*scsi_commands),
            _ => None,
        });
        commands.unwrap()
    }
}

pub fn digest(contents: &[u8]) -> String {
    let digest = Sha256::digest(contents);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What fsck.fat finds wrong with the volume at this block, without repairing it; `None` if nothing.
pub fn fsck(image: &Path, first_block: u64) -> Option<String> {
    // It takes no offset.
    let volume = tempfile::NamedTempFile::new().unwrap();
    let mut source = File::open(image).unwrap();
    std::io::Seek::seek(&mut source, std::io::SeekFrom::Start(first_block * 512)).unwrap();
    std::io::copy(&mut source, &mut volume.as_file()).unwrap();
    let installed = ["/usr/sbin/fsck.fat", "/sbin/fsck.fat"];
    let program = installed.into_iter().find(|path| Path::new(path).exists());
    let output = Command::new(program.unwrap_or("fsck.fat"))
        .arg("-n")
        .arg(volume.path())
        .output()
        .expect("fsck.fat (package dosfstools)");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (!output.status.success()).then_some(said)
}

/// Copies an image, holes and all.
pub fn copy(image: &Path) -> tempfile::NamedTempFile {
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::copy(image, copy.path()).unwrap();
    copy
}
