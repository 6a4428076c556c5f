//! Arbiter of the AHB, Hollywood's internal bus: priorities of its masters and a performance counter.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0100` (hardware notes, section 4) |
//! | access | 32 bits, privileged |
//! | certainty | names only, from two lists |
//! | Dolphin | missing |

use crate::macros::offsets;
use crate::reg::Guarded;

/// Registers of the block. All are unsafe to write: a master that starves hangs the machine.
#[repr(C)]
pub struct Registers {
    /// ARB_CFG_M0 to M9: masters 0 to 9.
    pub arb_cfg_m: [Guarded<u32>; 10],
    _reserved: [u32; 2],
    /// ARB_CFG_MC to MF: masters 12 to 15.
    pub arb_cfg_mc: [Guarded<u32>; 4],
    /// ARB_CFG_CPU: the processors.
    pub arb_cfg_cpu: Guarded<u32>,
    /// ARB_CFG_DMA: DMA.
    pub arb_cfg_dma: Guarded<u32>,
    /// ARB_PCNTCFG: performance counter configuration.
    pub arb_pcntcfg: Guarded<u32>,
    /// ARB_PCNTSTS: performance counter status.
    pub arb_pcntsts: Guarded<u32>,
}

offsets!(Registers: 0x50 {
    arb_cfg_m: 0x00, arb_cfg_mc: 0x30, arb_cfg_cpu: 0x40, arb_cfg_dma: 0x44, arb_pcntcfg: 0x48, arb_pcntsts: 0x4C,
});
