//! Requests as IOS reads them: a block of 16 big-endian words, a table of vectors behind it, and buffers.

use mem2_dma::{Bidirectional, Device, FromDevice, Mapping, Quiesced, ToDevice};

use super::IosError;

/// Most buffers of a request: what the largest request of USB, an isochronous one, needs.
pub const MAX_BUFFERS: usize = 4;

/// Bytes of the block (hardware notes, section 6.1).
pub(super) const BLOCK_BYTES: usize = 64;
/// Bytes of block and vectors: an address and a length for each buffer.
const ENVELOPE_BYTES: usize = BLOCK_BYTES + 8 * MAX_BUFFERS;

/// Longest path of a device, its terminating zero included.
const PATH_BYTES: usize = 64;

/// Commands of the first word (hardware notes, section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Command {
    Open = 1,
    Close = 2,
    Read = 3,
    Write = 4,
    Seek = 5,
    Ioctl = 6,
    Ioctlv = 7,
}

/// The first word of a block that IOS has given back.
pub(super) const REPLY: u32 = 8;

/// An open file or device of IOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub(super) u32);

impl Fd {
    /// Names a descriptor by its number, whether it is open or not.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Returns its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// What an offset of a seek counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Whence {
    /// The beginning.
    Start = 0,
    /// Where the file is now.
    Here = 1,
    /// The end.
    End = 2,
}

/// Room for IOS to write into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// So many zero bytes: where IOS does not tell how many it wrote.
    Zeroed(usize),
    /// So many bytes of whatever was in the pool: only what IOS tells to have written may be copied out.
    Undefined(usize),
}

/// Memory that a request lends to IOS.
///
/// Whoever holds the value is not IOS: the driver keeps it from announcement to reply. So dropping it frees the memory.
pub(super) struct Buffer<'p>(Option<Kind<'p>>);

enum Kind<'p> {
    ToDevice(Mapping<'p, ToDevice>),
    FromDevice(Mapping<'p, FromDevice>),
    Envelope(Mapping<'p, Bidirectional>),
}

impl<'p> Buffer<'p> {
    /// Copies `data` for IOS to read.
    fn outgoing(device: &Device<'p>, data: &[u8]) -> Result<Self, IosError> {
        Ok(Self(Some(Kind::ToDevice(device.map_to_device(data)?))))
    }

    /// Makes room for IOS to write.
    fn incoming(device: &Device<'p>, room: Output) -> Result<Self, IosError> {
        let mapping = match room {
            Output::Zeroed(len) => device.map_from_device_zeroed(len)?,
            Output::Undefined(len) => device.map_from_device(len)?,
        };
        Ok(Self(Some(Kind::FromDevice(mapping))))
    }

    /// Address and length, as IOS is told.
    fn span(&self) -> (u32, u32) {
        match &self.0 {
            Some(Kind::ToDevice(mapping)) => (mapping.bus().get(), mapping.len() as u32),
            Some(Kind::FromDevice(mapping)) => (mapping.bus().get(), mapping.len() as u32),
            Some(Kind::Envelope(mapping)) => (mapping.bus().get(), mapping.len() as u32),
            None => (0, 0),
        }
    }

    /// Copies the first `into.len()` bytes that IOS wrote.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> Result<(), IosError> {
        match &mut self.0 {
            Some(Kind::FromDevice(mapping)) => Ok(mapping.sync_for_cpu(0, into)?),
            Some(Kind::Envelope(mapping)) => Ok(mapping.sync_for_cpu(0, into)?),
            // IOS writes to no other.
            _ => Ok(()),
        }
    }

    /// Overwrites the beginning of an envelope that IOS has given back.
    fn rewrite(&mut self, block: &[u8]) -> Result<(), IosError> {
        match &mut self.0 {
            Some(Kind::Envelope(mapping)) => Ok(mapping.sync_for_device(0, block)?),
            _ => Ok(()),
        }
    }

    /// Gives the memory up while IOS may still use it.
    pub(super) fn quarantine(mut self) {
        match self.0.take() {
            Some(Kind::ToDevice(mapping)) => drop(mapping.quarantine()),
            Some(Kind::FromDevice(mapping)) => drop(mapping.quarantine()),
            Some(Kind::Envelope(mapping)) => drop(mapping.quarantine()),
            None => {}
        }
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: the driver keeps a buffer until IOS has replied to its request, or has never sent it; nobody else was
        // given the address.
        let done = unsafe { Quiesced::assert() };
        // An error says that the pool has been reset meanwhile: then the room is free already.
        let _ = match self.0.take() {
            Some(Kind::ToDevice(mapping)) => mapping.discard(&done),
            Some(Kind::FromDevice(mapping)) => mapping.discard(&done),
            Some(Kind::Envelope(mapping)) => mapping.discard(&done),
            None => Ok(()),
        };
    }
}

/// A request and the memory that it lends to IOS. Not sent until it is given to [`Ipc::submit`](super::Ipc::submit).
pub struct Request<'p> {
    pub(super) command: Command,
    fd: u32,
    arguments: [u32; 5],
    /// Whether the buffers are named by a table of vectors, not by the arguments.
    vectored: bool,
    pub(super) buffers: [Option<Buffer<'p>>; MAX_BUFFERS],
}

impl<'p> Request<'p> {
    fn new(command: Command, fd: u32, arguments: [u32; 5]) -> Self {
        Self {
            command,
            fd,
            arguments,
            vectored: false,
            buffers: [const { None }; MAX_BUFFERS],
        }
    }

    fn with(mut self, index: usize, buffer: Option<Buffer<'p>>) -> Self {
        if let Some(place) = self.buffers.get_mut(index) {
            *place = buffer;
        }
        self
    }

    /// Opens the device `path`, with IOS's `mode` (0 none, 1 read, 2 write, 3 both).
    ///
    /// # Errors
    /// [`IosError::BadPath`], [`IosError::Memory`].
    pub fn open(device: &Device<'p>, path: &str, mode: u32) -> Result<Self, IosError> {
        let path = path.as_bytes();
        let mut bytes = [0; PATH_BYTES];
        match bytes.get_mut(..path.len()) {
            Some(place) if !path.is_empty() && path.len() < PATH_BYTES && !path.contains(&0) => {
                place.copy_from_slice(path);
            }
            _ => return Err(IosError::BadPath),
        }
        let path = Buffer::outgoing(device, &bytes)?;
        let (address, _) = path.span();
        Ok(Self::new(Command::Open, 0, [address, mode, 0, 0, 0]).with(0, Some(path)))
    }

    /// Closes a device.
    pub fn close(fd: Fd) -> Self {
        Self::new(Command::Close, fd.0, [0; 5])
    }

    /// Reads up to `len` bytes.
    ///
    /// # Errors
    /// [`IosError::Memory`].
    pub fn read(device: &Device<'p>, fd: Fd, len: usize) -> Result<Self, IosError> {
        let buffer = Buffer::incoming(device, Output::Undefined(len))?;
        let (address, len) = buffer.span();
        Ok(Self::new(Command::Read, fd.0, [address, len, 0, 0, 0]).with(0, Some(buffer)))
    }

    /// Writes `data`.
    ///
    /// # Errors
    /// [`IosError::Memory`].
    pub fn write(device: &Device<'p>, fd: Fd, data: &[u8]) -> Result<Self, IosError> {
        let buffer = Buffer::outgoing(device, data)?;
        let (address, len) = buffer.span();
        Ok(Self::new(Command::Write, fd.0, [address, len, 0, 0, 0]).with(0, Some(buffer)))
    }

    /// Moves to `offset`.
    pub fn seek(fd: Fd, offset: i32, whence: Whence) -> Self {
        Self::new(Command::Seek, fd.0, [offset as u32, whence as u32, 0, 0, 0])
    }

    /// Does what `number` means to the device, with `input` and room for `output` bytes; each may be empty.
    ///
    /// # Errors
    /// [`IosError::Memory`].
    pub fn ioctl(
        device: &Device<'p>,
        fd: Fd,
        number: u32,
        input: &[u8],
        output: usize,
    ) -> Result<Self, IosError> {
        let input = some(input.len(), || Buffer::outgoing(device, input))?;
        let output = some(output, || Buffer::incoming(device, Output::Zeroed(output)))?;
        let (input_address, input_len) = input.as_ref().map_or((0, 0), Buffer::span);
        let (output_address, output_len) = output.as_ref().map_or((0, 0), Buffer::span);
        let arguments = [number, input_address, input_len, output_address, output_len];
        Ok(Self::new(Command::Ioctl, fd.0, arguments)
            .with(0, input)
            .with(1, output))
    }

    /// Does what `number` means to the device, with buffers for it to read and then buffers for it to write.
    ///
    /// The buffers of the reply count from 0 through both.
    ///
    /// # Errors
    /// [`IosError::Memory`], [`IosError::TooManyBuffers`].
    pub fn ioctlv(
        device: &Device<'p>,
        fd: Fd,
        number: u32,
        inputs: &[&[u8]],
        outputs: &[Output],
    ) -> Result<Self, IosError> {
        if inputs.len() + outputs.len() > MAX_BUFFERS {
            return Err(IosError::TooManyBuffers);
        }
        let counts = [number, inputs.len() as u32, outputs.len() as u32, 0, 0];
        let mut request = Self::new(Command::Ioctlv, fd.0, counts);
        request.vectored = true;
        for (index, input) in inputs.iter().enumerate() {
            let buffer = some(input.len(), || Buffer::outgoing(device, input))?;
            request = request.with(index, buffer);
        }
        for (index, &room) in outputs.iter().enumerate() {
            let (Output::Zeroed(len) | Output::Undefined(len)) = room;
            let buffer = some(len, || Buffer::incoming(device, room))?;
            request = request.with(inputs.len() + index, buffer);
        }
        Ok(request)
    }

    /// Addresses and lengths of all buffers.
    pub(super) fn spans(&self) -> impl Iterator<Item = (u32, u32)> {
        self.buffers.iter().flatten().map(Buffer::span)
    }

    /// Puts the block and its vectors into the pool, ready for IOS.
    pub(super) fn envelope(&self, device: &Device<'p>) -> Result<Envelope<'p>, IosError> {
        let mut bytes = [0; ENVELOPE_BYTES];
        bytes[BLOCK_BYTES..]
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(&self.buffers)
            .for_each(|(vector, buffer): (&mut [u8; 8], _)| {
                let (address, len) = buffer.as_ref().map_or((0, 0), Buffer::span);
                *vector = (u64::from(address) << 32 | u64::from(len)).to_be_bytes();
            });
        let block = block(self.command, self.fd, self.arguments);
        bytes[..BLOCK_BYTES].copy_from_slice(&block);
        let mapping = device.map_bidirectional(&bytes)?;
        let mut envelope = Envelope(Buffer(Some(Kind::Envelope(mapping))));
        if self.vectored {
            // The block names the table, whose place is known only now.
            let [number, inputs, outputs, ..] = self.arguments;
            let table = envelope.address() + BLOCK_BYTES as u32;
            let arguments = [number, inputs, outputs, table, 0];
            envelope.rewrite(Command::Ioctlv, self.fd, arguments)?;
        }
        Ok(envelope)
    }
}

/// Makes a buffer unless it would be empty.
fn some<'p>(
    len: usize,
    make: impl FnOnce() -> Result<Buffer<'p>, IosError>,
) -> Result<Option<Buffer<'p>>, IosError> {
    if len == 0 { Ok(None) } else { make().map(Some) }
}

/// Encodes a block.
fn block(command: Command, fd: u32, arguments: [u32; 5]) -> [u8; BLOCK_BYTES] {
    let [a, b, c, d, e] = arguments;
    let mut bytes = [0; BLOCK_BYTES];
    bytes
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip([command as u32, 0, fd, a, b, c, d, e])
        .for_each(|(place, word): (&mut [u8; 4], u32)| *place = word.to_be_bytes());
    bytes
}

/// A request block in the pool.
pub(super) struct Envelope<'p>(pub(super) Buffer<'p>);

impl Envelope<'_> {
    /// Physical address of the block.
    pub fn address(&self) -> u32 {
        self.0.span().0
    }

    /// Bytes of block and vectors.
    pub fn len(&self) -> u32 {
        self.0.span().1
    }

    /// First word and result of a block that IOS has given back.
    pub fn reply(&mut self) -> Result<(u32, i32), IosError> {
        let mut head = [0; 8];
        self.0.receive(&mut head)?;
        let [a, b, c, d, result @ ..] = head;
        Ok((u32::from_be_bytes([a, b, c, d]), i32::from_be_bytes(result)))
    }

    /// Makes another request of a block that IOS does not have.
    pub fn rewrite(
        &mut self,
        command: Command,
        fd: u32,
        arguments: [u32; 5],
    ) -> Result<(), IosError> {
        self.0.rewrite(&block(command, fd, arguments))
    }
}
