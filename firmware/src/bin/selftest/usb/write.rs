//! Writes a pattern over the first 16 MiB of a stick and reads part of it back; the host compares the image.

use super::storage::{BLOCK, Data, Stick};
use super::{mem2, with_stick};
use ehci::memory::{Buffer, Dma};
use mem2_dma::Mem2;
use wiistick::arguments::Arguments;

const COMMAND: usize = 128 * 1024;
const COMMANDS: u32 = 128;

/// The word at an index of the pattern. The host has the same formula.
fn word(index: u32) -> u32 {
    index.wrapping_mul(0x9E37_79B9) ^ index >> 5
}

/// Each command alternates between a buffer in MEM2 and a bounced copy.
pub fn pattern(_: Arguments<'static>) -> Result<(), &'static str> {
    with_stick(mem2()?, Mem2::CONSTRAINTS, |controller, stick| {
        let device = controller.dma().paged_device();
        let buffer = device.allocate(COMMAND).map_err(|_| "no buffer")?;
        let mut buffer = Some(buffer);
        for command in 0..COMMANDS {
            let block = command * (COMMAND / BLOCK) as u32;
            let mut whole = buffer.take().ok_or("no buffer")?;
            for (index, bytes) in whole.chunks_exact_mut(4).enumerate() {
                let index = command * (COMMAND / 4) as u32 + index as u32;
                bytes.copy_from_slice(&word(index).to_be_bytes());
            }
            if command % 2 == 0 {
                let lent = whole.lend_to_device(COMMAND).map_err(|_| "not lent")?;
                let mut data = Some(Data::from(lent));
                stick.write(controller, block, &mut data)?;
                buffer = data.and_then(Data::reclaim);
            } else {
                let copy = controller.dma().outgoing(&whole).map_err(|_| "no room")?;
                stick.write(controller, block, &mut Some(copy))?;
                buffer = Some(whole);
            }
        }
        stick.synchronise(controller)?;
        let last = (COMMANDS - 1) * (COMMAND / BLOCK) as u32;
        let room = controller.dma().incoming(Stick::room(COMMAND));
        let mut data = Some(room.map_err(|_| "no room")?);
        stick.read(controller, last, (COMMAND / BLOCK) as u16, &mut data)?;
        let mut whole = buffer.take().ok_or("no buffer")?;
        data.ok_or("the buffer is lost")?.copy_received(&mut whole);
        let first = (COMMANDS - 1) * (COMMAND / 4) as u32;
        let same = whole
            .chunks_exact(4)
            .zip(first..)
            .all(|(bytes, index)| bytes == word(index).to_be_bytes());
        if same {
            Ok(())
        } else {
            Err("other bytes came back")
        }
    })
}
