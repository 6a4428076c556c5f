//! I2C slave of Hollywood, and two spare registers behind it.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0150` (public register lists; not in the hardware notes) |
//! | access | 32 bits, privileged |
//! | certainty | names only, from two lists |
//! | Dolphin | missing |
//!
//! The A/V encoder is not behind it: that hangs on two GPIO pins ([`crate::gpio`]).

use crate::macros::offsets;
use crate::reg::ReadWrite;

/// Registers of the block.
#[repr(C)]
pub struct Registers {
    /// I2CSCTRL_0: control.
    pub i2csctrl_0: ReadWrite<u32>,
    /// I2CSSTS_0: status.
    pub i2cssts_0: ReadWrite<u32>,
    /// I2CSRDEN_0: read enable.
    pub i2csrden_0: ReadWrite<u32>,
    _reserved: u32,
    /// I2CSTRAP: configuration straps.
    pub i2cstrap: ReadWrite<u32>,
    /// I2CSCTRL_1: control.
    pub i2csctrl_1: ReadWrite<u32>,
    /// I2CSVISETYUV: colour conversion of the video interface.
    pub i2csvisetyuv: ReadWrite<u32>,
    /// I2CSVISETFILT: filter of the video interface.
    pub i2csvisetfilt: ReadWrite<u32>,
    /// SPARE2; name only.
    pub spare2: ReadWrite<u32>,
    /// SPARE3; name only.
    pub spare3: ReadWrite<u32>,
}

offsets!(Registers: 0x28 {
    i2csctrl_0: 0x00, i2cssts_0: 0x04, i2csrden_0: 0x08, i2cstrap: 0x10, i2csctrl_1: 0x14, i2csvisetyuv: 0x18,
    i2csvisetfilt: 0x1C, spare2: 0x20, spare3: 0x24,
});
