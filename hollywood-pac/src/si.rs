//! SI: the serial interface of the four controller sockets.
//!
//! | | |
//! |---|---|
//! | base | `0x0D00_6400` (hardware notes, section 1.1; YAGCD 5.8); PI interrupt 3 |
//! | access | 32 bits; needs AIPPROT ([`crate::protection`]) |
//! | certainty | certain for what YAGCD names; unnamed bits are preserved |
//! | Dolphin | complete |

use crate::macros::{bits, offsets};
use crate::reg::{ClearBits, PartlyClear, ReadOnly, ReadWrite};

/// Buffers of one socket.
#[repr(C)]
pub struct Channel {
    /// OUTBUF: command that polling sends.
    pub outbuf: ReadWrite<u32>,
    /// INBUFH: first word of the answer, with error flags in bits 31:30.
    pub inbufh: ReadOnly<u32>,
    /// INBUFL: second word of the answer.
    pub inbufl: ReadOnly<u32>,
}

offsets!(Channel: 0x0C { outbuf: 0x00, inbufh: 0x04, inbufl: 0x08 });

bits! {
    /// SIPOLL: polling.
    pub struct SiPoll(u32);
    /// Sockets whose OUTBUF is copied at the vertical blank only: bit 3 is socket 0.
    pub u8, vbcpy, set_vbcpy: 3, 0;
    /// Sockets that are polled: bit 3 is socket 0.
    pub u8, en, set_en: 7, 4;
    /// Polls in a field.
    pub u8, y, set_y: 15, 8;
    /// Lines between polls.
    pub u16, x, set_x: 25, 16;
}

bits! {
    /// SICOMCSR: transfers of up to 128 bytes.
    pub struct SiComCsr(u32);
    /// Starts; reads one until complete.
    pub tstart, set_tstart: 0;
    /// Socket.
    pub u8, channel, set_channel: 2, 1;
    /// Bytes to receive, 0 for 128.
    pub u8, inlength, set_inlength: 14, 8;
    /// Bytes to send, 0 for 128.
    pub u8, outlength, set_outlength: 22, 16;
    /// Interrupt on RDSTINT.
    pub rdstintmask, set_rdstintmask: 27;
    /// RDSTINT: a polled socket has data; cleared by reading INBUFH.
    pub rdstint, _: 28;
    /// COMERR: the transfer failed, see SISR.
    pub comerr, _: 29;
    /// Interrupt on TCINT.
    pub tcintmask, set_tcintmask: 30;
    /// TCINT: transfer complete. Write one to clear.
    pub tcint, set_tcint: 31;
}

impl ClearBits for SiComCsr {
    const CLEAR: u32 = 1 << 31;
}

bits! {
    /// SISR: status of the sockets, a byte each, socket 0 in the most significant.
    pub struct SiSr(u32);
    /// Socket 3: UNRUN, OVRUN, COLL, NOREP in bits 0 to 3; write one to clear. WRST, RDST in bits 4 and 5.
    pub u8, channel3, set_channel3: 5, 0;
    /// Socket 2.
    pub u8, channel2, set_channel2: 13, 8;
    /// Socket 1.
    pub u8, channel1, set_channel1: 21, 16;
    /// Socket 0.
    pub u8, channel0, set_channel0: 29, 24;
    /// WR: copies all OUTBUFs.
    pub wr, set_wr: 31;
}

impl ClearBits for SiSr {
    const CLEAR: u32 = 0x0F0F_0F0F;
}

bits! {
    /// SIEXILK.
    pub struct SiExiLk(u32);
    /// EXI may not run at 32 MHz.
    pub lock, set_lock: 31;
}

/// Registers of the interface.
#[repr(C)]
pub struct Registers {
    /// Socket 0.
    pub channel0: Channel,
    /// Socket 1.
    pub channel1: Channel,
    /// Socket 2.
    pub channel2: Channel,
    /// Socket 3.
    pub channel3: Channel,
    /// SIPOLL: polling.
    pub sipoll: ReadWrite<SiPoll>,
    /// SICOMCSR: transfers.
    pub sicomcsr: PartlyClear<SiComCsr>,
    /// SISR: status.
    pub sisr: PartlyClear<SiSr>,
    /// SIEXILK: clock lock of EXI.
    pub siexilk: ReadWrite<SiExiLk>,
    _reserved: [u32; 16],
    /// Buffer of transfers: sent from and received to its start.
    pub buffer: [ReadWrite<u32>; 32],
}

offsets!(Registers: 0x100 {
    sipoll: 0x30, sicomcsr: 0x34, sisr: 0x38, siexilk: 0x3C, buffer: 0x80,
} nested { channel0: 0x00, channel1: 0x0C, channel2: 0x18, channel3: 0x24 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // YAGCD 5.8.
    masks! {
        SiPoll { vbcpy: 0x0000_000F, en: 0x0000_00F0, y: 0x0000_FF00, x: 0x03FF_0000 }
        SiComCsr clear 0x8000_0000 {
            tstart: 0x0000_0001, channel: 0x0000_0006, inlength: 0x0000_7F00, outlength: 0x007F_0000,
            rdstintmask: 0x0800_0000, rdstint: 0x1000_0000, comerr: 0x2000_0000,
            tcintmask: 0x4000_0000, tcint: 0x8000_0000,
        }
        SiSr clear 0x0F0F_0F0F {
            channel3: 0x0000_003F, channel2: 0x0000_3F00, channel1: 0x003F_0000, channel0: 0x3F00_0000,
            wr: 0x8000_0000,
        }
        SiExiLk { lock: 0x8000_0000 }
    }
}
