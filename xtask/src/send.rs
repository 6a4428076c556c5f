//! Starts the image on a console: the protocol that the Homebrew Channel listens for while it is open
//! (hardware notes, section 8.3), spoken by the crate `wiiload`.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::images;
use crate::workspace::Workspace;

/// Time that a console has to answer, and to take each part of the image.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends `boot.dol`, as it was built, to the Homebrew Channel at `host`.
///
/// # Errors
/// There is no such console, or it does not take the image.
pub fn boot_image(workspace: &Workspace, host: &str) -> Result<()> {
    let dol = fs::read(workspace.target("dol/boot.dol")).context("cannot read boot.dol")?;
    let name = format!("{}.dol", images::FIRMWARE);
    let sent = send(host, &name, &dol).with_context(|| {
        format!(
            "{host} did not take the image; is the Homebrew Channel open there, and the console in the same network?"
        )
    })?;
    println!(
        "sent {name} to {sent}: {} bytes, {} KiB in memory",
        dol.len(),
        dol.len().div_ceil(1024)
    );
    Ok(())
}

/// Sends an image under a name, and returns the address that took it.
fn send(host: &str, name: &str, image: &[u8]) -> io::Result<SocketAddr> {
    let mut console = connect(host)?;
    console.set_write_timeout(Some(PATIENCE))?;
    wiiload::compress_then_send_slice(&mut console, name, image)?;
    console.flush()?;
    console.peer_addr()
}

/// Connects to the first address of `host` that answers.
fn connect(host: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the name has no address");
    for address in addresses(host)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(console) => return Ok(console),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Returns the addresses of `host`, which may name a port of its own.
fn addresses(host: &str) -> io::Result<Vec<SocketAddr>> {
    let with_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if with_port {
        host.to_socket_addrs()?.collect()
    } else {
        (host, wiiload::WIILOAD_PORT).to_socket_addrs()?.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    /// What a Homebrew Channel receives when `image` is sent to it.
    fn received(image: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        let channel = thread::spawn(move || {
            let (mut program, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            program.read_to_end(&mut bytes).unwrap();
            bytes
        });
        assert_eq!(
            send(&host.to_string(), "wiistick.dol", image).unwrap(),
            host
        );
        channel.join().unwrap()
    }

    #[test]
    fn the_homebrew_channel_receives_header_image_and_name_byte_by_byte() {
        let image: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| (n / 7).to_be_bytes())
            .collect();
        let bytes = received(&image);

        // Hardware notes, section 8.3: magic, version 0.5, length of the arguments.
        assert_eq!(&bytes[..8], b"HAXX\x00\x05\x00\x0D");
        let compressed = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        // 400 000 bytes.
        assert_eq!(bytes[12..16], [0x00, 0x06, 0x1A, 0x80]);
        // The arguments end the stream: the name, terminated.
        assert_eq!(&bytes[16 + compressed..], b"wiistick.dol\0");
        let mut payload = Vec::new();
        flate2::read::ZlibDecoder::new(&bytes[16..16 + compressed])
            .read_to_end(&mut payload)
            .unwrap();
        assert_eq!(payload, image);
        assert!(compressed < image.len());
    }

    #[test]
    fn the_payload_has_the_frame_of_zlib() {
        // CMF: deflate with a window of 32 KiB; with FLG a multiple of 31 (RFC 1950, section 2.2).
        let bytes = received(b"abc");
        assert_eq!(bytes[16], 0x78);
        assert_eq!(u16::from_be_bytes([bytes[16], bytes[17]]) % 31, 0);
    }

    #[test]
    fn a_console_that_is_not_there_is_an_error() {
        // Bound and not listened at any more: the port is free.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(send(&port.to_string(), "wiistick.dol", b"x").is_err());
        assert!(send("", "wiistick.dol", b"x").is_err());
    }

    #[test]
    fn the_port_is_the_homebrew_channels_unless_given() {
        let port = |host| addresses(host).unwrap()[0].port();
        assert_eq!(port("127.0.0.1"), 4299);
        assert_eq!(port("127.0.0.1:5000"), 5000);
    }
}
