//! IPC: the mailbox between the CPU and the Starlet, the ARM processor that runs IOS.
//!
//! | | |
//! |---|---|
//! | base | `0x0D00_0000`, and `0x0D80_000C` for the ARM's side (hardware notes, sections 4 and 6.2); Hollywood interrupts 30 and 31 |
//! | access | 32 bits; the CPU's three registers need no privilege |
//! | certainty | certain: five sources agree on the CPU's side |
//! | Dolphin | PPCMSG cannot be read there, ARMMSG not be written, ARMCTRL is missing |
//!
//! The handshake is hardware notes, section 6.2. Flags are written as commands: bits 0 to 3 act when written as one.

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{Guarded, ReadOnly};

bits! {
    /// IPC_PPCCTRL: flags of the mailbox, as the CPU sees them.
    pub struct PpcCtrl(u32);
    /// X1: write one to announce the request in PPCMSG.
    pub x1, set_x1: 0;
    /// Y2: the Starlet has taken the request. Write one to clear.
    pub y2, set_y2: 1;
    /// Y1: a reply is in ARMMSG. Write one to clear.
    pub y1, set_y1: 2;
    /// X2: write one to say that the reply was taken (or that IOS is being relaunched).
    pub x2, set_x2: 3;
    /// IY1: interrupt when a reply comes.
    pub iy1, set_iy1: 4;
    /// IY2: interrupt when a request was taken.
    pub iy2, set_iy2: 5;
}

impl PpcCtrl {
    /// Returns a value that keeps the two interrupt enables of `self` and nothing that acts: the base of every write.
    pub const fn enables(self) -> Self {
        Self::from_bits(self.bits() & 0x30)
    }
}

/// The CPU's side.
#[repr(C)]
pub struct Registers {
    /// IPC_PPCMSG: physical address of the request, 32-byte aligned. Unsafe to write: IOS writes its reply there.
    pub ppcmsg: Guarded<BusAddr>,
    /// IPC_PPCCTRL: flags. Unsafe to write: X1 hands the request at PPCMSG to IOS, whoever put that there.
    pub ppcctrl: Guarded<PpcCtrl>,
    /// IPC_ARMMSG: physical address of the request that the reply belongs to.
    pub armmsg: ReadOnly<BusAddr>,
}

offsets!(Registers: 0x0C { ppcmsg: 0x00, ppcctrl: 0x04, armmsg: 0x08 });

/// The Starlet's side, in the privileged view.
#[repr(C)]
pub struct Arm {
    /// IPC_ARMCTRL: flags of the mailbox, as the Starlet sees them. Only for looking at.
    pub armctrl: ReadOnly<u32>,
}

offsets!(Arm: 0x04 { armctrl: 0x00 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 4.
    masks! {
        PpcCtrl {
            x1: 0x0000_0001, y2: 0x0000_0002, y1: 0x0000_0004, x2: 0x0000_0008, iy1: 0x0000_0010,
            iy2: 0x0000_0020,
        }
    }

    #[test]
    fn flags_are_where_the_handshake_has_them() {
        // Hardware notes, section 6.2: enable = 0x38, acknowledged = Y2 with IY2, replied = Y1 with IY1.
        let mut enable = PpcCtrl::default();
        enable.set_x2(true);
        enable.set_iy1(true);
        enable.set_iy2(true);
        assert_eq!(enable.bits(), 0x38);
        assert!(PpcCtrl::from_bits(0x22).y2() && PpcCtrl::from_bits(0x14).y1());
        assert_eq!(PpcCtrl::from_bits(0x3F).enables().bits(), 0x30);
    }

    #[test]
    fn a_request_is_announced_as_its_physical_address_and_bit_0() {
        let memory = Memory::<Registers>::filled(0);
        memory.set(4, &[0, 0, 0, 0x36]);
        let ipc = memory.registers();
        let mut send = ipc.ppcctrl.read().enables();
        send.set_x1(true);
        // SAFETY: nobody reads this memory.
        unsafe {
            ipc.ppcmsg.write(BusAddr::new(0x1000_4000));
            ipc.ppcctrl.write(send);
        }
        assert_eq!(memory.bytes(0, 8), [0x10, 0, 0x40, 0, 0, 0, 0, 0x31]);
    }
}
