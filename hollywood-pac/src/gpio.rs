//! GPIO: buttons, lights, the sensor bar, the disc slot, and the A/V encoder's I2C, as typed pins.
//!
//! | | |
//! |---|---|
//! | base | `0x0D00_00C0` (the CPU's pins), `0x0D80_00DC` (the Starlet's) (hardware notes, sections 4 and 4.4); Hollywood interrupts 10 and 11 |
//! | access | 32 bits; the Starlet's pins are privileged |
//! | certainty | certain (four sources), pin numbers too |
//! | Dolphin | OUT, DIR and IN of both; the slot light has no effect |
//!
//! The register OWNER says whose a pin is. What IOS leaves: slot light, slot sensor, sensor bar, eject and the encoder's I2C
//! belong to the CPU, the rest to the Starlet. Every pin is its own value, so that two drivers cannot fight over one; the shared
//! registers are changed bit by bit, in critical sections, and only where a pin's owner is the bank that it came from.
//!
//! ```standalone_crate
//! use embedded_hal::digital::{OutputPin, PinState};
//! use hollywood_pac::Peripherals;
//!
//! let peripherals = Peripherals::take().unwrap();
//! let pins = peripherals.gpiob.split();
//! let mut light = pins.slot_led.into_output(PinState::Low);
//! light.set_high().unwrap();
//! ```

use core::convert::Infallible;
use core::marker::PhantomData;

use embedded_hal::digital::{ErrorType, InputPin, OutputPin, PinState, StatefulOutputPin};

use crate::macros::{bits, offsets};
use crate::peripherals::{GpioArm, GpioB};
use crate::reg::{ReadOnly, ReadWrite, WriteOneToClear};

bits! {
    /// A set of pins, one bit each.
    pub struct Lines(u32);
    /// Power button, a pulse.
    pub power_button, set_power_button: 0;
    /// Turns the console off.
    pub shutdown, set_shutdown: 1;
    /// Fan.
    pub fan, set_fan: 2;
    /// DC/DC converter.
    pub dc_dc, set_dc_dc: 3;
    /// Disc drive does not spin up at reset.
    pub di_spin, set_di_spin: 4;
    /// Light of the disc slot.
    pub slot_led, set_slot_led: 5;
    /// Eject button, a pulse.
    pub eject_button, set_eject_button: 6;
    /// A disc is in the slot.
    pub slot_in, set_slot_in: 7;
    /// Sensor bar.
    pub sensor_bar, set_sensor_bar: 8;
    /// Ejects the disc, by a pulse.
    pub do_eject, set_do_eject: 9;
    /// Settings EEPROM: chip select.
    pub eep_cs, set_eep_cs: 10;
    /// Settings EEPROM: clock.
    pub eep_clk, set_eep_clk: 11;
    /// Settings EEPROM: data to it.
    pub eep_mosi, set_eep_mosi: 12;
    /// Settings EEPROM: data from it.
    pub eep_miso, set_eep_miso: 13;
    /// A/V encoder: I2C clock.
    pub ave_scl, set_ave_scl: 14;
    /// A/V encoder: I2C data, with a pull-up outside.
    pub ave_sda, set_ave_sda: 15;
    /// Test points.
    pub u8, debug, set_debug: 23, 16;
}

impl Lines {
    const fn of(pin: u8) -> Self {
        Self::from_bits(1 << (pin & 31))
    }

    const fn has(self, pin: u8) -> bool {
        self.bits() & Self::of(pin).bits() != 0
    }

    const fn with(self, pin: u8, high: bool) -> Self {
        if high {
            Self::from_bits(self.bits() | Self::of(pin).bits())
        } else {
            Self::from_bits(self.bits() & !Self::of(pin).bits())
        }
    }
}

/// Registers of one bank of pins.
#[repr(C)]
pub struct Bank {
    /// OUT: levels that are driven.
    pub out: ReadWrite<Lines>,
    /// DIR: one drives.
    pub dir: ReadWrite<Lines>,
    /// IN: levels that are seen.
    pub input: ReadOnly<Lines>,
    /// INTLVL: level that interrupts.
    pub intlvl: ReadWrite<Lines>,
    /// INTFLAG: pins that have interrupted.
    pub intflag: WriteOneToClear<Lines>,
    /// INTMASK: pins that may interrupt.
    pub intmask: ReadWrite<Lines>,
    /// STRAPS: levels at reset.
    pub straps: ReadOnly<Lines>,
}

offsets!(Bank: 0x1C { out: 0x00, dir: 0x04, input: 0x08, intlvl: 0x0C, intflag: 0x10, intmask: 0x14, straps: 0x18 });

/// The Starlet's bank, with what stands around it.
#[repr(C)]
pub struct Arm {
    /// ENABLE: pins that work; 0xFF_FFFF.
    pub enable: ReadWrite<Lines>,
    /// The pins.
    pub bank: Bank,
    /// OWNER: one gives the pin to the CPU's bank.
    pub owner: ReadWrite<Lines>,
}

offsets!(Arm: 0x24 { enable: 0x00, owner: 0x20 } nested { bank: 0x04 });

/// State of a pin that was not configured: whatever IOS made of it.
pub struct Unconfigured;
/// State of a pin that is only read.
pub struct Input;
/// State of a pin that is driven high or low.
pub struct Output;
/// State of a pin that is driven low or let go.
pub struct OpenDrain;

/// Pin `N` of a bank, in state `S`.
pub struct Pin<'b, const N: u8, S = Unconfigured> {
    bank: &'b Bank,
    state: PhantomData<S>,
}

impl<'b, const N: u8, S> Pin<'b, N, S> {
    const fn new(bank: &'b Bank) -> Self {
        Self {
            bank,
            state: PhantomData,
        }
    }

    /// Makes the pin an input.
    pub fn into_input(self) -> Pin<'b, N, Input> {
        critical_section::with(|_| self.bank.dir.modify(|dir| *dir = dir.with(N, false)));
        Pin::new(self.bank)
    }

    /// Makes the pin an output that starts at `level`.
    pub fn into_output(self, level: PinState) -> Pin<'b, N, Output> {
        critical_section::with(|_| {
            self.bank
                .out
                .modify(|out| *out = out.with(N, level == PinState::High));
            self.bank.dir.modify(|dir| *dir = dir.with(N, true));
        });
        Pin::new(self.bank)
    }

    /// Makes the pin an open-drain output that is let go.
    pub fn into_open_drain(self) -> Pin<'b, N, OpenDrain> {
        critical_section::with(|_| {
            self.bank.dir.modify(|dir| *dir = dir.with(N, false));
            self.bank.out.modify(|out| *out = out.with(N, false));
        });
        Pin::new(self.bank)
    }

    /// Interrupts while the pin is at `level`; what was flagged before is forgotten. Hollywood's GPIO source must be enabled too.
    pub fn enable_interrupt(&mut self, level: PinState) {
        critical_section::with(|_| {
            self.bank
                .intlvl
                .modify(|lines| *lines = lines.with(N, level == PinState::High));
            self.bank.intflag.clear(Lines::of(N));
            self.bank
                .intmask
                .modify(|lines| *lines = lines.with(N, true));
        });
    }

    /// Interrupts no more.
    pub fn disable_interrupt(&mut self) {
        critical_section::with(|_| {
            self.bank
                .intmask
                .modify(|lines| *lines = lines.with(N, false))
        });
    }

    /// Says whether the pin has interrupted since the last [`Pin::clear_interrupt`].
    pub fn has_interrupted(&self) -> bool {
        self.bank.intflag.read().has(N)
    }

    /// Forgets that the pin has interrupted.
    pub fn clear_interrupt(&mut self) {
        self.bank.intflag.clear(Lines::of(N));
    }

    fn sees_high(&self) -> bool {
        self.bank.input.read().has(N)
    }
}

impl<const N: u8, S> ErrorType for Pin<'_, N, S> {
    type Error = Infallible;
}

impl<const N: u8> InputPin for Pin<'_, N, Input> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.sees_high())
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(!self.sees_high())
    }
}

impl<const N: u8> OutputPin for Pin<'_, N, Output> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        critical_section::with(|_| self.bank.out.modify(|out| *out = out.with(N, false)));
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        critical_section::with(|_| self.bank.out.modify(|out| *out = out.with(N, true)));
        Ok(())
    }
}

impl<const N: u8> StatefulOutputPin for Pin<'_, N, Output> {
    fn is_set_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.bank.out.read().has(N))
    }

    fn is_set_low(&mut self) -> Result<bool, Infallible> {
        Ok(!self.bank.out.read().has(N))
    }
}

impl<const N: u8> OutputPin for Pin<'_, N, OpenDrain> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        critical_section::with(|_| self.bank.dir.modify(|dir| *dir = dir.with(N, true)));
        Ok(())
    }

    /// Lets the pin go; whoever else drives it low keeps it low.
    fn set_high(&mut self) -> Result<(), Infallible> {
        critical_section::with(|_| self.bank.dir.modify(|dir| *dir = dir.with(N, false)));
        Ok(())
    }
}

impl<const N: u8> InputPin for Pin<'_, N, OpenDrain> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.sees_high())
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(!self.sees_high())
    }
}

/// The pins that belong to the CPU after a normal boot. They need no privilege.
pub struct PpcPins<'b> {
    /// Light of the disc slot.
    pub slot_led: Pin<'b, 5>,
    /// High while a disc is in the slot.
    pub slot_in: Pin<'b, 7>,
    /// Sensor bar, active high.
    pub sensor_bar: Pin<'b, 8>,
    /// Ejects the disc: high for 500 ms.
    pub do_eject: Pin<'b, 9>,
    /// A/V encoder: I2C clock.
    pub ave_scl: Pin<'b, 14>,
    /// A/V encoder: I2C data; open drain only.
    pub ave_sda: Pin<'b, 15>,
}

impl<'b> PpcPins<'b> {
    fn new(bank: &'b Bank) -> Self {
        Self {
            slot_led: Pin::new(bank),
            slot_in: Pin::new(bank),
            sensor_bar: Pin::new(bank),
            do_eject: Pin::new(bank),
            ave_scl: Pin::new(bank),
            ave_sda: Pin::new(bank),
        }
    }
}

impl GpioB {
    /// Splits the CPU's bank into its pins.
    pub fn split(self) -> PpcPins<'static> {
        PpcPins::new(self.leak())
    }
}

/// The pins that belong to the Starlet after a normal boot. IOS drives them too; privileged.
pub struct ArmPins<'b> {
    /// Power button: a pulse, not held.
    pub power_button: Pin<'b, 0>,
    /// Turns the console off when high.
    pub shutdown: Pin<'b, 1>,
    /// Fan.
    pub fan: Pin<'b, 2>,
    /// DC/DC converter.
    pub dc_dc: Pin<'b, 3>,
    /// When high, the disc drive does not spin up at reset.
    pub di_spin: Pin<'b, 4>,
    /// Eject button: a pulse.
    pub eject_button: Pin<'b, 6>,
    /// Settings EEPROM: chip select.
    pub eep_cs: Pin<'b, 10>,
    /// Settings EEPROM: clock.
    pub eep_clk: Pin<'b, 11>,
    /// Settings EEPROM: data to it.
    pub eep_mosi: Pin<'b, 12>,
    /// Settings EEPROM: data from it.
    pub eep_miso: Pin<'b, 13>,
    /// Test point 0.
    pub debug0: Pin<'b, 16>,
    /// Test point 1.
    pub debug1: Pin<'b, 17>,
    /// Test point 2.
    pub debug2: Pin<'b, 18>,
    /// Test point 3.
    pub debug3: Pin<'b, 19>,
    /// Test point 4.
    pub debug4: Pin<'b, 20>,
    /// Test point 5.
    pub debug5: Pin<'b, 21>,
    /// Test point 6.
    pub debug6: Pin<'b, 22>,
    /// Test point 7.
    pub debug7: Pin<'b, 23>,
}

impl<'b> ArmPins<'b> {
    fn new(bank: &'b Bank) -> Self {
        Self {
            power_button: Pin::new(bank),
            shutdown: Pin::new(bank),
            fan: Pin::new(bank),
            dc_dc: Pin::new(bank),
            di_spin: Pin::new(bank),
            eject_button: Pin::new(bank),
            eep_cs: Pin::new(bank),
            eep_clk: Pin::new(bank),
            eep_mosi: Pin::new(bank),
            eep_miso: Pin::new(bank),
            debug0: Pin::new(bank),
            debug1: Pin::new(bank),
            debug2: Pin::new(bank),
            debug3: Pin::new(bank),
            debug4: Pin::new(bank),
            debug5: Pin::new(bank),
            debug6: Pin::new(bank),
            debug7: Pin::new(bank),
        }
    }
}

impl GpioArm {
    /// Splits the Starlet's bank into its pins. ENABLE and OWNER stay as they are from here on.
    pub fn split(self) -> ArmPins<'static> {
        ArmPins::new(&self.leak().bank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 4.4.
    masks! {
        Lines {
            power_button: 0x0000_0001, shutdown: 0x0000_0002, fan: 0x0000_0004, dc_dc: 0x0000_0008,
            di_spin: 0x0000_0010, slot_led: 0x0000_0020, eject_button: 0x0000_0040, slot_in: 0x0000_0080,
            sensor_bar: 0x0000_0100, do_eject: 0x0000_0200, eep_cs: 0x0000_0400, eep_clk: 0x0000_0800,
            eep_mosi: 0x0000_1000, eep_miso: 0x0000_2000, ave_scl: 0x0000_4000, ave_sda: 0x0000_8000,
            debug: 0x00FF_0000,
        }
    }

    /// OUT and DIR.
    fn out_and_dir(memory: &Memory<Bank>) -> [Vec<u8>; 2] {
        [memory.bytes(0, 4), memory.bytes(4, 4)]
    }

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn an_output_drives_its_own_bit_and_no_other() {
        let memory = Memory::<Bank>::filled(0);
        memory.set(0, &[0x00, 0x00, 0xC0, 0x01]);
        let mut light = PpcPins::new(memory.registers())
            .slot_led
            .into_output(PinState::High);
        assert_eq!(out_and_dir(&memory), [[0, 0, 0xC0, 0x21], [0, 0, 0, 0x20]]);
        assert_eq!(light.is_set_high(), Ok(true));
        light.set_low().unwrap();
        assert_eq!(light.is_set_low(), Ok(true));
        assert_eq!(memory.bytes(0, 4), [0, 0, 0xC0, 0x01]);
        light.toggle().unwrap();
        assert_eq!(memory.bytes(0, 4), [0, 0, 0xC0, 0x21]);
    }

    #[test]
    fn an_output_has_its_level_before_it_drives() {
        // The image cannot show an order in time, but a direction without the level would show here.
        let memory = Memory::<Bank>::filled(0xFF);
        let _eject = PpcPins::new(memory.registers())
            .do_eject
            .into_output(PinState::Low);
        assert_eq!(out_and_dir(&memory), [[0xFF, 0xFF, 0xFD, 0xFF], [0xFF; 4]]);
    }

    #[test]
    fn an_input_reads_what_is_seen_not_what_is_driven() {
        let memory = Memory::<Bank>::filled(0xFF);
        memory.set(8, &[0, 0, 0, 0]);
        let mut slot = PpcPins::new(memory.registers()).slot_in.into_input();
        assert_eq!(slot.is_low(), Ok(true));
        assert_eq!(slot.is_high(), Ok(false));
        memory.set(8, &[0, 0, 0, 0x80]);
        assert_eq!(slot.is_high(), Ok(true));
        assert_eq!(memory.bytes(4, 4), [0xFF, 0xFF, 0xFF, 0x7F]);
    }

    #[test]
    fn an_open_drain_pin_is_never_driven_high() {
        let memory = Memory::<Bank>::filled(0xFF);
        let mut data = PpcPins::new(memory.registers()).ave_sda.into_open_drain();
        assert_eq!(
            out_and_dir(&memory),
            [[0xFF, 0xFF, 0x7F, 0xFF], [0xFF, 0xFF, 0x7F, 0xFF]]
        );
        data.set_low().unwrap();
        assert_eq!(out_and_dir(&memory), [[0xFF, 0xFF, 0x7F, 0xFF], [0xFF; 4]]);
        data.set_high().unwrap();
        assert_eq!(
            out_and_dir(&memory),
            [[0xFF, 0xFF, 0x7F, 0xFF], [0xFF, 0xFF, 0x7F, 0xFF]]
        );
    }

    #[test]
    fn a_pins_interrupt_is_its_bit_in_level_flag_and_mask() {
        let memory = Memory::<Bank>::filled(0);
        let mut button = ArmPins::new(memory.registers()).eject_button.into_input();
        button.enable_interrupt(PinState::High);
        assert_eq!(
            memory.bytes(0x0C, 12),
            [0, 0, 0, 0x40, 0, 0, 0, 0x40, 0, 0, 0, 0x40]
        );
        assert!(button.has_interrupted());
        button.disable_interrupt();
        assert_eq!(memory.bytes(0x14, 4), [0; 4]);
    }

    #[test]
    fn pins_have_their_documented_numbers() {
        // Hardware notes, section 4.4.
        assert!(
            Lines::of(5).slot_led()
                && Lines::of(8).sensor_bar()
                && Lines::of(9).do_eject()
                && Lines::of(15).ave_sda()
        );
        assert!(Lines::of(0).power_button() && Lines::of(1).shutdown() && Lines::of(13).eep_miso());
        assert_eq!(Lines::from_bits(0x00FF_0000).debug(), 0xFF);
    }
}
