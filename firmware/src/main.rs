//! `boot.dol`: attaches the USB sticks that it finds and reads every file on them.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod program {
    use core::fmt::Write;
    use wiistick::arguments::Arguments;
    use wiistick::report::Event;
    use wiistick::wii::emit;
    use wiistick::wii::usb;

    wiistick::entry!(main);

    fn main(_: Arguments<'static>) -> u8 {
        emit(&Event::Started {
            firmware: env!("CARGO_PKG_VERSION"),
        });
        let mut text = heapless::String::<160>::new();
        let error = match usb::read_sticks() {
            Ok(totals) if totals.sticks == 0 && totals.errors == 0 => {
                defmt::info!("there is no stick in any port");
                None
            }
            Ok(totals) if totals.errors == 0 => None,
            Ok(totals) => {
                // Fits.
                let _ = write!(text, "{} errors, see above", totals.errors);
                Some(text.as_str())
            }
            Err(error) => {
                // What does not fit is cut.
                let _ = write!(text, "{error}");
                Some(text.as_str())
            }
        };
        emit(&Event::Done {
            ok: error.is_none(),
            error,
        });
        u8::from(error.is_some())
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "this program runs on a Wii: `cargo xtask run` builds it and boots it in an emulator"
    );
    std::process::exit(2);
}
