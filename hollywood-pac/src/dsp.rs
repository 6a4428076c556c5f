//! DSP interface: mailboxes, control, DMA between memories, and DMA of audio.
//!
//! | | |
//! |---|---|
//! | base | `0x0C00_5000` (YAGCD 5.6 and 5.10); PI interrupt 6 |
//! | access | **16 bits**; 32-bit registers are two halves, the upper one first |
//! | certainty | mailboxes, control and DMA certain (YAGCD, libogc); AR_MODE and AR_REFRESH are names |
//! | Dolphin | complete |

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{ClearBits, PartlyClear, ReadOnly, ReadWrite, Split, SplitGuarded};

bits! {
    /// Upper half of a mailbox.
    pub struct MailHigh(u16);
    /// A mail is waiting to be read by the other side.
    pub pending, _: 15;
    /// Bits 30:16 of the mail.
    pub u16, data, set_data: 14, 0;
}

bits! {
    /// DSP_CSR: control and status.
    pub struct Csr(u16);
    /// RES: reset, reads one until done.
    pub res, set_res: 0;
    /// PIINT: interrupts the DSP.
    pub piint, set_piint: 1;
    /// HALT: stops the DSP.
    pub halt, set_halt: 2;
    /// AIDINT: the audio DMA ended. Write one to clear.
    pub aidint, set_aidint: 3;
    /// Interrupt on AIDINT.
    pub aidintmask, set_aidintmask: 4;
    /// ARINT: the memory DMA ended. Write one to clear.
    pub arint, set_arint: 5;
    /// Interrupt on ARINT.
    pub arintmask, set_arintmask: 6;
    /// DSPINT: the DSP interrupts. Write one to clear.
    pub dspint, set_dspint: 7;
    /// Interrupt on DSPINT.
    pub dspintmask, set_dspintmask: 8;
    /// The memory DMA runs.
    pub dma, _: 9;
    /// The DSP starts from its ROM after reset.
    pub init, set_init: 11;
}

impl ClearBits for Csr {
    const CLEAR: u16 = 1 << 3 | 1 << 5 | 1 << 7;
}

bits! {
    /// AR_DMA_CNT: length and direction of the memory DMA.
    pub struct ArCount(u32);
    /// From the auxiliary memory to main memory.
    pub to_main, set_to_main: 31;
    /// Bytes, a multiple of 32.
    pub u32, bytes, set_bytes: 25, 0;
}

bits! {
    /// Control and length of the audio DMA.
    pub struct AudioDma(u16);
    /// Plays.
    pub play, set_play: 15;
    /// Length in blocks of 32 bytes.
    pub u16, blocks, set_blocks: 14, 0;
}

/// Registers of the interface.
#[repr(C)]
pub struct Registers {
    /// Mailbox to the DSP, upper half: write first.
    pub to_dsp_high: ReadWrite<MailHigh>,
    /// Mailbox to the DSP, lower half: writing it sends.
    pub to_dsp_low: ReadWrite<u16>,
    /// Mailbox from the DSP, upper half.
    pub from_dsp_high: ReadOnly<MailHigh>,
    /// Mailbox from the DSP, lower half: reading it takes the mail.
    pub from_dsp_low: ReadOnly<u16>,
    _reserved0: u16,
    /// DSP_CSR: control and status.
    pub csr: PartlyClear<Csr>,
    _reserved1: [u16; 3],
    /// AR_SIZE: size of the auxiliary memory.
    pub ar_size: ReadWrite<u16>,
    _reserved2: u16,
    /// AR_MODE: name only.
    pub ar_mode: ReadWrite<u16>,
    _reserved3: u16,
    /// AR_REFRESH: name only.
    pub ar_refresh: ReadWrite<u16>,
    _reserved4: [u16; 2],
    /// AR_DMA_MMADDR: main memory, a multiple of 32. Unsafe to write: the DMA reads or writes there.
    pub ar_dma_mmaddr: SplitGuarded<BusAddr>,
    /// AR_DMA_ARADDR: auxiliary memory (on a Wii, MEM2). Unsafe to write: the DMA reads or writes there.
    pub ar_dma_araddr: SplitGuarded<BusAddr>,
    /// AR_DMA_CNT: writing its lower half starts. Unsafe to write: the DMA writes memory.
    pub ar_dma_cnt: SplitGuarded<ArCount>,
    _reserved5: [u16; 2],
    /// Audio DMA: start address, a multiple of 32. Only read by the DMA.
    pub audio_dma_start: Split<BusAddr>,
    _reserved6: u16,
    /// Audio DMA: control and length.
    pub audio_dma: ReadWrite<AudioDma>,
    _reserved7: u16,
    /// Audio DMA: blocks of 32 bytes left.
    pub audio_dma_left: ReadOnly<u16>,
}

offsets!(Registers: 0x3C {
    to_dsp_high: 0x00, to_dsp_low: 0x02, from_dsp_high: 0x04, from_dsp_low: 0x06, csr: 0x0A, ar_size: 0x12, ar_mode: 0x16,
    ar_refresh: 0x1A, ar_dma_mmaddr: 0x20, ar_dma_araddr: 0x24, ar_dma_cnt: 0x28, audio_dma_start: 0x30, audio_dma: 0x36,
    audio_dma_left: 0x3A,
});

impl Registers {
    /// Sends a mail of 31 bits to the DSP, if it has taken the last one; says whether it did.
    pub fn try_send_mail(&self, mail: u32) -> bool {
        if self.to_dsp_high.read().pending() {
            return false;
        }
        let mut high = MailHigh::default();
        high.set_data((mail >> 16) as u16);
        self.to_dsp_high.write(high);
        self.to_dsp_low.write(mail as u16);
        true
    }

    /// Takes a mail of 31 bits from the DSP, if there is one.
    pub fn try_receive_mail(&self) -> Option<u32> {
        let high = self.from_dsp_high.read();
        high.pending()
            .then(|| u32::from(high.data()) << 16 | u32::from(self.from_dsp_low.read()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // YAGCD 5.6.
    masks! {
        MailHigh { pending: 0x8000, data: 0x7FFF }
        Csr clear 0x00A8 {
            res: 0x0001, piint: 0x0002, halt: 0x0004, aidint: 0x0008, aidintmask: 0x0010, arint: 0x0020,
            arintmask: 0x0040, dspint: 0x0080, dspintmask: 0x0100, dma: 0x0200, init: 0x0800,
        }
        ArCount { to_main: 0x8000_0000, bytes: 0x03FF_FFFF }
        AudioDma { play: 0x8000, blocks: 0x7FFF }
    }

    #[test]
    fn a_mail_goes_only_when_the_last_was_taken() {
        let memory = Memory::<Registers>::filled(0);
        assert!(memory.registers().try_send_mail(0xFACE_CAFE));
        assert_eq!(memory.bytes(0, 4), [0x7A, 0xCE, 0xCA, 0xFE]);
        memory.set(0, &[0x80]);
        assert!(!memory.registers().try_send_mail(1));
        assert_eq!(memory.bytes(0, 4), [0x80, 0xCE, 0xCA, 0xFE]);
    }

    #[test]
    fn a_mail_comes_without_its_flag() {
        let memory = Memory::<Registers>::filled(0);
        assert_eq!(memory.registers().try_receive_mail(), None);
        memory.set(4, &[0xDC, 0xD1, 0x00, 0x05]);
        assert_eq!(memory.registers().try_receive_mail(), Some(0x5CD1_0005));
    }

    #[test]
    fn unmasking_an_interrupt_acknowledges_none() {
        let memory = Memory::<Registers>::filled(0);
        memory.set(0x0A, &[0x00, 0xA8]);
        memory
            .registers()
            .csr
            .modify(|csr| csr.set_dspintmask(true));
        assert_eq!(memory.bytes(0x0A, 2), [0x01, 0x00]);
    }
}
