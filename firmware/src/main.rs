//! `boot.dol`: attaches the USB sticks that it finds, reads every file on them, writes one and
//! verifies it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod program {
    use core::fmt::Write;
    use wiistick::arguments::Arguments;
    use wiistick::job::Task;
    use wiistick::report::Event;
    use wiistick::ui::app::Exit;
    use wiistick::wii::attended;
    use wiistick::wii::usb;
    use wiistick::wii::{emit, time};

    wiistick::entry!(main);

    fn main(arguments: Arguments<'static>) -> u8 {
        emit(&Event::Started {
            firmware: env!("CARGO_PKG_VERSION"),
        });
        if attended::is_wanted(arguments) {
            let exit = attended::run(arguments);
            emit(&Event::Done {
                ok: true,
                error: None,
            });
            if exit == Exit::PowerOff {
                attended::power_off();
            }
            return 0;
        }
        let mut text = heapless::String::<160>::new();
        let outcome = match Task::from_arguments(arguments, time::now_us()) {
            Ok(task) => usb::run(task),
            Err(refusal) => return done(Some(refusal)),
        };
        let error = match outcome {
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
        done(error)
    }

    /// Says how the run ended and returns its status.
    fn done(error: Option<&str>) -> u8 {
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
