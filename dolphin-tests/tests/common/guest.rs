//! Guest programs of a few instructions, made by hand: for what the harness must do with guests that the firmware is
//! not supposed to be.

use dolphin_tests::Program;
use tempfile::NamedTempFile;
use wiistick::log_ring;

/// Effective address of the first instruction.
pub const ENTRY: u32 = 0x8000_4000;
/// The uncached alias of the log ring.
const RING: u32 = 0xC000_0000 | log_ring::PHYSICAL_ADDRESS;

/// A program under construction.
pub struct Guest(Vec<u32>);

impl Guest {
    /// Begins with the argument block that the Homebrew Channel looks for.
    pub fn new() -> Self {
        Self(vec![0x4800_0024, 0x5F61_7267, 0, 0, 0, 0, 0, 0])
            // Never executed, but makes Dolphin take the program for one of a Wii.
            .then(&[0x7C73_FBA6])
    }

    fn then(mut self, instructions: &[u32]) -> Self {
        self.0.extend_from_slice(instructions);
        self
    }

    /// Stores a word at an effective address.
    pub fn store(self, address: u32, word: u32) -> Self {
        let [high, low] = [address >> 16, address & 0xFFFF];
        let [word_high, word_low] = [word >> 16, word & 0xFFFF];
        self.then(&[
            0x3C80_0000 | high,      // lis r4
            0x6084_0000 | low,       // ori r4, r4
            0x3CA0_0000 | word_high, // lis r5
            0x60A5_0000 | word_low,  // ori r5, r5
            0x90A4_0000,             // stw r5, 0(r4)
        ])
    }

    /// Stores a little-endian word, as EHCI wants it.
    pub fn store_little_endian(self, address: u32, word: u32) -> Self {
        self.store(address, word.swap_bytes())
    }

    /// Has the EHCI controller send a SETUP packet from bus address `buffer` to the stick in the first port, with
    /// descriptors at bus address `descriptors`, which the CPU reaches at `alias` (EHCI specification, sections 2 and 3).
    pub fn setup_packet(self, descriptors: u32, alias: u32, buffer: u32) -> Self {
        const OPERATIONAL: u32 = 0xCD04_0020;
        // Queue head: next is itself, high speed, control endpoint 0 of device 0, head of the list.
        let queue_head = [
            descriptors | 2,
            0x0040_E000,
            0x4000_0000,
            0,
            descriptors | 0x40,
            1,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        // Transfer descriptor: the last one, active, SETUP, three attempts, 8 bytes.
        let transfer = [1, 1, 0x0008_0E80, buffer, 0, 0, 0, 0];
        let guest = queue_head
            .into_iter()
            .chain([0; 4])
            .chain(transfer)
            .zip((alias..).step_by(4))
            .fold(self, |guest, (word, address)| {
                guest.store_little_endian(address, word)
            });
        guest
            .store_little_endian(OPERATIONAL + 0x40, 1) // CONFIGFLAG: ports are ours
            .store_little_endian(OPERATIONAL + 0x44, 0x1100) // PORTSC: power, reset
            .store_little_endian(OPERATIONAL + 0x44, 0x1000) // end of reset
            .store_little_endian(OPERATIONAL + 0x18, descriptors) // ASYNCLISTADDR
            .store_little_endian(OPERATIONAL, 0x0008_0021) // USBCMD: asynchronous schedule, run
    }

    /// Makes a log ring that holds `bytes`, a multiple of four.
    pub fn log(mut self, bytes: &[u8]) -> Self {
        for (index, word) in bytes.chunks(4).enumerate() {
            let word = u32::from_be_bytes(word.try_into().unwrap());
            self = self.store(RING + 0x40 + 4 * index as u32, word);
        }
        self.store(RING + 0x04, 1)
            .store(RING + 0x08, 256 << 10)
            .store(RING + 0x0C, bytes.len() as u32)
            .store(RING, 0x574C_4F47)
    }

    /// Leaves an exit status in the ring.
    pub fn status(self, status: u8) -> Self {
        self.store(RING + 0x1C, 0x8000_0000 | u32::from(status))
    }

    /// Jumps to the reload stub with `status`.
    pub fn leave(self, status: u8) -> Self {
        self.then(&[
            0x3860_0000 | u32::from(status), // li r3
            0x3D80_8000,                     // lis r12
            0x618C_1800,                     // ori r12, r12
            0x7D89_03A6,                     // mtctr r12
            0x4E80_0420,                     // bctr
        ])
    }

    /// Ends as a well-behaved program does.
    pub fn exit(self, status: u8) -> Self {
        self.status(status).leave(status)
    }

    /// Enables external interrupts.
    pub fn enable_interrupts(self) -> Self {
        self.then(&[
            0x7C60_00A6, // mfmsr r3
            0x6063_8000, // ori r3, r3, EE
            0x7C60_0124, // mtmsr r3
        ])
    }

    /// Never ends.
    pub fn hang(self) -> Self {
        self.then(&[0x4800_0000])
    }

    /// Sends one byte through the USB Gecko in slot B: selects the device, writes 16 bits at once, waits, deselects.
    pub fn gecko(self, byte: u8) -> Self {
        self.store(0xCD00_6814, 0xD0)
            .store(0xCD00_6824, 0xB000_0000 | u32::from(byte) << 20)
            .store(0xCD00_6820, 0x19)
            .then(&[
                0x80A4_0000, // lwz r5, 0(r4)
                0x70A5_0001, // andi. r5, r5, 1
                0x4082_FFF8, // bne: still transferring
            ])
            .store(0xCD00_6814, 0)
    }

    /// Address of the next instruction.
    pub fn here(&self) -> u32 {
        ENTRY + 4 * self.0.len() as u32
    }

    /// The DOL file: one text section.
    pub fn dol(&self) -> Vec<u8> {
        let mut header = [0; 64];
        (header[0], header[0x12], header[0x24], header[0x38]) =
            (0x100, ENTRY, 4 * self.0.len() as u32, ENTRY);
        header
            .iter()
            .chain(&self.0)
            .flat_map(|word| word.to_be_bytes())
            .collect()
    }

    /// Writes the program where [`Image::program`] finds it.
    pub fn image(&self) -> Image {
        Image::new(&self.dol(), None)
    }

    /// The same, with the ELF file that knows the [`sample`] message.
    pub fn image_with_table(&self) -> Image {
        Image::new(&self.dol(), Some(super::sample::elf()))
    }
}

/// A guest program on disk.
pub struct Image {
    dol: NamedTempFile,
    elf: Option<NamedTempFile>,
}

impl Image {
    pub fn new(dol: &[u8], elf: Option<NamedTempFile>) -> Self {
        let file = tempfile::Builder::new()
            .prefix("guest")
            .suffix(".dol")
            .tempfile()
            .unwrap();
        std::fs::write(file.path(), dol).unwrap();
        Self { dol: file, elf }
    }

    pub fn program(&self) -> Program {
        Program {
            dol: self.dol.path().to_owned(),
            elf: self.elf.as_ref().map(|elf| elf.path().to_owned()),
        }
    }
}
