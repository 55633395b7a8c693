//! A client of charon's configuration interface: one command at a time, each with a time limit.

use super::message::{self, MAX_PACKET, Malformed, Packet, Section, TooLong, Writer};
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// How long charon may take to answer. It answers at once, also where it negotiates afterwards.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The socket is not there, or charon ended.
    #[error(
        "charon does not answer ({0}): flanneld starts it again; its own lines in the log say why it ended"
    )]
    Io(#[from] io::Error),
    /// It did not answer in time.
    #[error(
        "charon does not answer {command} within {ANSWER_TIMEOUT:?}: flanneld ends it and starts it again"
    )]
    Timeout { command: &'static str },
    /// It sent what is no answer.
    #[error("charon's answer to {command} cannot be read: {reason}")]
    Malformed {
        command: &'static str,
        reason: Malformed,
    },
    /// It refused a command.
    #[error("charon refuses {command}: {reason}")]
    Refused {
        command: &'static str,
        reason: String,
    },
    /// It lacks a command: another program has the socket, or a very old charon.
    #[error("charon does not know {command}: it is too old")]
    UnknownCommand { command: &'static str },
    /// What it was to be told.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
}

impl Client {
    pub(super) async fn connect(socket: &Path) -> Result<Client, Error> {
        let stream = timeout(ANSWER_TIMEOUT, UnixStream::connect(socket)).await;
        let stream = stream.map_err(|_| Error::Timeout { command: "connect" })??;
        Ok(Client { stream })
    }

    /// Sends a command and returns charon's answer. Fails also if the answer is a refusal.
    pub(super) async fn command(
        &mut self,
        command: &'static str,
        message: Writer,
    ) -> Result<Section, Error> {
        let packet = message.request(command)?;
        let answer = timeout(ANSWER_TIMEOUT, self.exchange(&packet, command)).await;
        let answer = answer.map_err(|_| Error::Timeout { command })??;
        match answer.text("success") {
            Some("yes") | None => Ok(answer),
            Some(_) => {
                let reason = answer.text("errmsg").unwrap_or("it gives no reason");
                let reason = crate::one_line::one_line(reason);
                Err(Error::Refused { command, reason })
            }
        }
    }

    async fn exchange(&mut self, packet: &[u8], command: &'static str) -> Result<Section, Error> {
        self.stream.write_all(packet).await?;
        let malformed = |reason| Error::Malformed { command, reason };
        loop {
            let length = self.stream.read_u32().await?;
            let length = usize::try_from(length).ok();
            let Some(length) = length.filter(|length| *length <= MAX_PACKET) else {
                let text = "charon sent a packet that is too long";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
            };
            let mut packet = vec![0; length];
            self.stream.read_exact(&mut packet).await?;
            match message::read(&packet).map_err(malformed)? {
                Packet::Response(section) => return Ok(section),
                Packet::UnknownCommand => return Err(Error::UnknownCommand { command }),
                Packet::Other => {}
            }
        }
    }

    /// Waits until charon closes the connection: it ended.
    pub(super) async fn closed(&self) {
        let mut byte = [0];
        loop {
            if self.stream.readable().await.is_err() {
                return;
            }
            match self.stream.try_read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // nothing is asked for, so nothing else than the end can come
                Ok(_) | Err(_) => return,
            }
        }
    }
}
