//! The MySQL door: login, the driver of a client's exchanges, and the protocol of its upstreams.

mod admission;
#[cfg(debug_assertions)]
mod bridge;
mod client;
mod driver;
mod entry;
mod front;
mod known_login;
mod login;
#[cfg_attr(
    not(debug_assertions),
    expect(dead_code, reason = "SQL over HTTP is to be its first user")
)]
mod memory;
mod seat;
mod server_key;
mod stall;
pub(super) mod tenants;
mod told;
pub mod upstream;
pub(super) mod world;

use std::pin::Pin;
use std::rc::Rc;

use super::Protocol;
use crate::base::address::Address;
use crate::base::close::CloseReason;
use crate::base::codes::{Event, code, message};
#[cfg(debug_assertions)]
use crate::net;
use crate::net::Stream;
#[cfg(debug_assertions)]
use crate::session::mysql::intake::COMMAND_LEN_MAX;
use crate::wire::mysql::cursor::packet;
use crate::wire::mysql::response::{ErrPacket, encode_err};
use client::{Client, End};
use front::StreamFront;
use told::Newcomer;
use world::World;

/// A door at which MySQL is spoken.
type Door = super::Door<Mysql>;

/// MySQL at a door.
pub(super) struct Mysql {
    pub(super) world: Rc<World>,
}

impl Protocol for Mysql {
    const TASK: &'static str = "mysql client";

    fn serve(
        door: Rc<Door>,
        stream: Stream,
        peer: Address,
    ) -> impl Future<Output = CloseReason> + 'static {
        let world = Rc::clone(&door.protocol.world);
        serve(Box::pin(login::enter(world, door, stream, peer)))
    }

    /// Before a greeting an ERR has no SQLSTATE.
    fn turn_away(door: &Door, mut stream: Stream, peer: Address) {
        let event = Event::TooManyConnections;
        let (_, id) = door.core.new_client();
        Newcomer { id, peer }.told(event, door);
        let text = message(event, "", u64::from(id));
        let err = ErrPacket {
            errno: code(event).errno,
            sqlstate: None,
            message: text.as_bytes(),
        };
        let mut out = Vec::new();
        packet(&mut out, 0, |out| encode_err(out, &err));
        stream.send_bytes(&out);
    }
}

/// A client's task. The login has a box of its own, so that an idle client does not hold the memory
/// that it needed.
async fn serve(
    login: Pin<Box<impl Future<Output = Result<Box<Client<StreamFront>>, End>>>>,
) -> CloseReason {
    let mut client = match login.await {
        Ok(client) => client,
        Err(end) => return end,
    };
    #[cfg(debug_assertions)]
    if std::env::var("RINGGATE_TEST_FRONT").is_ok_and(|front| front == "memory") {
        return serve_in_memory(client).await;
    }
    client.serve().await
}

/// Serves a client through a front in memory, which somebody else speaks through for its socket.
#[cfg(debug_assertions)]
async fn serve_in_memory(client: Box<Client<StreamFront>>) -> CloseReason {
    let capabilities = client.conversation.session().capabilities();
    let (memory, mut speaker) = memory::pair(capabilities, COMMAND_LEN_MAX);
    let mut client = client.behind(|front| {
        let (stream, early) = front.into_parts();
        speaker.say(early.as_deref().unwrap_or_default());
        net::spawn(
            "mysql speaker",
            bridge::speak_for(stream, speaker, capabilities),
        )
        .detach();
        memory
    });
    client.serve().await
}
