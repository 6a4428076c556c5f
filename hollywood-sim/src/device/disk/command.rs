//! The commands.

use super::{Data, Disk, Sense};

/// Reads a big-endian number out of a command block.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

impl Disk {
    pub(super) fn dispatch(&mut self, command: &[u8]) -> Result<Data, Sense> {
        let operation = *command.first().ok_or(Sense::COMMAND)?;
        // A command block that is too short has zeros where it ends.
        let mut c = [0; 16];
        let len = command.len().min(16);
        c[..len].copy_from_slice(&command[..len]);
        // INQUIRY, REPORT LUNS, and REQUEST SENSE are answered in any case.
        if !matches!(operation, 0x12 | 0xa0 | 0x03) {
            self.ready(operation)?;
        }
        match operation {
            // TEST UNIT READY, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, VERIFY without data
            0x00 | 0x1b | 0x1e => Ok(Data::None),
            0x2f if c[1] & 6 == 0 => self.range(&c[2..6], &c[7..9]).map(|_| Data::None),
            0x03 => {
                let sense = std::mem::replace(&mut self.sense, Sense::NONE);
                let sense = match self.attention.take() {
                    Some(attention) if sense == Sense::NONE => attention,
                    _ => sense,
                };
                reply(sense.to_bytes(), c[4].into())
            }
            0x12 => self.inquiry(&c),
            0x1a => reply(self.mode(&c, 4), c[4].into()),
            0x5a => reply(self.mode(&c, 8), number(&c[7..9])),
            0x23 => reply(self.format_capacities(), number(&c[7..9])),
            0x25 => {
                let last = u32::try_from(self.claimed() - 1).unwrap_or(u32::MAX);
                let size = self.block_size;
                let words = [last.to_be_bytes(), size.to_be_bytes()];
                Ok(Data::Reply(words.concat()))
            }
            // SERVICE ACTION IN(16): READ CAPACITY(16)
            0x9e if c[1] & 0x1f == 0x10 => {
                let mut bytes = vec![0; 32];
                bytes[..8].copy_from_slice(&(self.claimed() - 1).to_be_bytes());
                bytes[8..12].copy_from_slice(&self.block_size.to_be_bytes());
                reply(bytes, number(&c[10..14]))
            }
            // Zero blocks in READ(6) and WRITE(6) are 256; the bus addresses 21 bits.
            0x08 | 0x0a => {
                let count = [u8::from(c[4] == 0), c[4]];
                let lba = [c[1] & 0x1f, c[2], c[3]];
                self.transfer(operation == 0x0a, &lba, &count)
            }
            0x28 | 0x2a => self.transfer(operation == 0x2a, &c[2..6], &c[7..9]),
            0xa8 | 0xaa => self.transfer(operation == 0xaa, &c[2..6], &c[6..10]),
            0x88 | 0x8a => self.transfer(operation == 0x8a, &c[2..10], &c[10..14]),
            // SYNCHRONIZE CACHE
            0x35 | 0x91 => match self.medium.flush() {
                Ok(()) => Ok(Data::None),
                Err(_) => Err(Sense::WRITE),
            },
            // REPORT LUNS: one logical unit behind every number of the transport.
            0xa0 => {
                let mut bytes = vec![0; 16];
                bytes[3] = 8;
                reply(bytes, number(&c[6..10]))
            }
            _ => Err(Sense::COMMAND),
        }
    }

    /// Attention first, once; then whether there is a medium that is ready.
    fn ready(&mut self, operation: u8) -> Result<(), Sense> {
        if let Some(attention) = self.attention.take() {
            return Err(attention);
        }
        if !self.present {
            return Err(Sense::NO_MEDIUM);
        }
        // Starting it is what one does then.
        if self.becoming_ready != 0 && operation != 0x1b {
            self.becoming_ready -= 1;
            return Err(Sense::BECOMING_READY);
        }
        Ok(())
    }

    fn claimed(&self) -> u64 {
        self.claimed_blocks.unwrap_or(self.blocks).max(1)
    }

    fn transfer(&self, write: bool, lba: &[u8], count: &[u8]) -> Result<Data, Sense> {
        let (at, len) = self.range(lba, count)?;
        match (write, len) {
            (true, _) if self.write_protected => Err(Sense::PROTECTED),
            (_, 0) => Ok(Data::None),
            (true, _) => Ok(Data::Write { at, len }),
            (false, _) => Ok(Data::Read { at, len }),
        }
    }

    /// Returns first byte and length of blocks that exist.
    fn range(&self, lba: &[u8], count: &[u8]) -> Result<(u64, u64), Sense> {
        let (lba, count) = (number(lba), number(count));
        let end = lba.checked_add(count).ok_or(Sense::RANGE)?;
        if end > self.blocks {
            return Err(Sense::RANGE);
        }
        let size = u64::from(self.block_size);
        Ok((lba * size, count * size))
    }

    fn inquiry(&self, c: &[u8; 16]) -> Result<Data, Sense> {
        let allocation = number(&c[3..5]);
        match (c[1] & 1, c[2]) {
            (0, 0) => {
                let mut bytes = vec![0, 0, 4, 2, 31, 0, 0, 0];
                bytes[1] = if self.removable { 0x80 } else { 0 };
                let [vendor, product] = &self.name;
                bytes.extend(padded(vendor, 8));
                bytes.extend(padded(product, 16));
                bytes.extend(padded("0100", 4));
                reply(bytes, allocation)
            }
            (1, 0x00) => reply([0, 0x00, 0, 2, 0x00, 0x80], allocation),
            (1, 0x80) => {
                let mut bytes = vec![0, 0x80, 0, 8];
                bytes.extend(padded("0001", 8));
                reply(bytes, allocation)
            }
            _ => Err(Sense::FIELD),
        }
    }

    /// The header of MODE SENSE (SPC-3, 7.4.3), and no pages: what matters is the write protection.
    fn mode(&self, c: &[u8; 16], header: usize) -> Vec<u8> {
        let mut bytes = vec![0; header];
        let protected = if self.write_protected { 0x80 } else { 0 };
        bytes[if header == 4 { 2 } else { 3 }] = protected;
        // The caching page: no write cache.
        if matches!(c[2] & 0x3f, 0x08 | 0x3f) {
            bytes.extend([0x08, 18]);
            bytes.extend([0; 18]);
        }
        if header == 4 {
            bytes[0] = (bytes.len() - 1) as u8;
        } else {
            bytes[1] = (bytes.len() - 2) as u8;
        }
        bytes
    }

    fn format_capacities(&self) -> Vec<u8> {
        let blocks = u32::try_from(self.claimed()).unwrap_or(u32::MAX);
        let mut bytes = vec![0, 0, 0, 8];
        bytes.extend(blocks.to_be_bytes());
        bytes.extend(self.block_size.to_be_bytes());
        bytes[8] = 2;
        bytes
    }
}

/// Sends as much as the host has room for.
fn reply(bytes: impl Into<Vec<u8>>, allocation: u64) -> Result<Data, Sense> {
    let mut bytes = bytes.into();
    bytes.truncate(usize::try_from(allocation).unwrap_or(usize::MAX));
    if bytes.is_empty() {
        return Ok(Data::None);
    }
    Ok(Data::Reply(bytes))
}

fn padded(text: &str, len: usize) -> impl Iterator<Item = u8> {
    text.bytes().chain(std::iter::repeat(b' ')).take(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of four blocks that has said that it was switched on.
    fn disk(block_size: u32) -> Disk {
        let mut disk = Disk::of(block_size, vec![9; 4 * block_size as usize]);
        assert_eq!(disk.begin(&[0; 6]), Err(Sense::POWER_ON));
        disk
    }

    #[test]
    fn the_first_command_learns_that_power_came_on_and_the_sense_is_told_once() {
        let mut disk = disk(512);
        let Ok(Data::Reply(sense)) = disk.begin(&[3, 0, 0, 0, 18, 0]) else {
            panic!("no sense data");
        };
        assert_eq!(
            (sense[0], sense[2], sense[12], sense[13]),
            (0x70, 6, 0x29, 0)
        );
        assert_eq!(disk.begin(&[0; 6]), Ok(Data::None));
        assert_eq!(disk.sense(), Sense::NONE);
    }

    #[test]
    fn every_length_of_read_and_write_finds_its_blocks() {
        let reads: [&[u8]; 4] = [
            &[0x08, 0, 0, 1, 2, 0],
            &[0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0],
            &[0xa8, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
            &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
        ];
        let mut disk = disk(4096);
        let (at, len) = (4096, 8192);
        for read in reads {
            assert_eq!(disk.begin(read), Ok(Data::Read { at, len }));
            let mut write = read.to_vec();
            write[0] += 2;
            assert_eq!(disk.begin(&write), Ok(Data::Write { at, len }));
        }
    }

    #[test]
    fn blocks_that_do_not_exist_are_out_of_range() {
        let mut disk = disk(512);
        let last = [0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0];
        assert!(disk.begin(&last).is_ok());
        for (lba, count) in [(4, 1), (3, 2), (0xff, 1)] {
            let read = [0x28, 0, 0, 0, 0, lba, 0, 0, count, 0];
            assert_eq!(disk.begin(&read), Err(Sense::RANGE));
        }
        let mut wrap = [0xff; 16];
        wrap[0] = 0x88;
        assert_eq!(disk.begin(&wrap), Err(Sense::RANGE));
    }

    #[test]
    fn more_than_two_tebibytes_need_sixteen_byte_commands() {
        let mut disk = Disk::zeros(512, 6 << 30);
        let _ = disk.begin(&[0; 6]);
        let capacity = disk.begin(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(
            capacity,
            Data::Reply(vec![0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0])
        );
        let long = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
        let Ok(Data::Reply(bytes)) = disk.begin(&long) else {
            panic!("no capacity");
        };
        assert_eq!(
            bytes[..12],
            [0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0, 2, 0]
        );
        let read = [
            0x88, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0,
        ];
        let at = ((6 << 30) - 1) * 512;
        assert_eq!(disk.begin(&read), Ok(Data::Read { at, len: 512 }));
    }

    #[test]
    fn a_lying_capacity_leads_to_blocks_that_do_not_exist() {
        let mut disk = disk(512);
        disk.claimed_blocks = Some(1000);
        let capacity = disk.begin(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(capacity, Data::Reply(vec![0, 0, 3, 0xe7, 0, 0, 2, 0]));
        let read = [0x28, 0, 0, 0, 3, 0xe7, 0, 0, 1, 0];
        assert_eq!(disk.begin(&read), Err(Sense::RANGE));
    }

    #[test]
    fn a_protected_disk_says_so_and_refuses_to_write() {
        let mut disk = disk(512);
        disk.write_protected = true;
        let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(disk.begin(&write), Err(Sense::PROTECTED));
        let mode = disk.begin(&[0x1a, 0, 0x3f, 0, 4, 0]).unwrap();
        assert_eq!(mode, Data::Reply(vec![23, 0, 0x80, 0]));
    }

    #[test]
    fn a_slot_without_a_medium_answers_inquiry_only() {
        let mut disk = disk(512);
        disk.change(false);
        assert_eq!(disk.begin(&[0; 6]), Err(Sense::CHANGED));
        assert_eq!(disk.begin(&[0; 6]), Err(Sense::NO_MEDIUM));
        assert!(disk.begin(&[0x12, 0, 0, 0, 36, 0]).is_ok());
        disk.change(true);
        disk.becoming_ready = 1;
        assert_eq!(disk.begin(&[0; 6]), Err(Sense::CHANGED));
        assert_eq!(disk.begin(&[0; 6]), Err(Sense::BECOMING_READY));
        assert_eq!(disk.begin(&[0; 6]), Ok(Data::None));
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let mut disk = disk(512);
        assert_eq!(disk.begin(&[0xee, 0, 0, 0, 0, 0]), Err(Sense::COMMAND));
        assert_eq!(disk.begin(&[]), Err(Sense::COMMAND));
        assert_eq!(disk.begin(&[0x12, 1, 0x99, 0, 36, 0]), Err(Sense::FIELD));
    }
}
