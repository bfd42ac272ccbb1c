//! Connections that sessions leave with state on them: what can be undone is, and the connection goes on.
//! A login is dearer, and the permit of a closed connection is not free before its server has closed it too.

use std::future::poll_fn;
use std::rc::Rc;

use super::lease::{Ending, Leased};
use super::pool::PoolState;
use super::protocol::Protocol;
use crate::base::close::CloseReason;
use crate::core::fault;
use crate::net;

/// Has the server undo what is on a connection that nobody has leased but this, which then joins its pool,
/// or `other`.
pub(super) fn start<P: Protocol>(
    mut leased: Leased<P>,
    other: Option<Rc<PoolState<P>>>,
    reason: CloseReason,
) {
    let connection = leased.connection_mut();
    let mut out = Vec::new();
    P::begin_cleanse(&mut connection.session, &mut out);
    connection.stream.send_bytes(&out);
    fault::point("cleanse.sent");
    let pool = Rc::clone(leased.pool());
    net::spawn("upstream cleanse", async move {
        let ending = match finish(&mut leased).await {
            Ok(()) => {
                pool.endpoint.metrics.cleansed.inc();
                other.map_or(Ending::Return, Ending::Move)
            }
            Err(error) => {
                crate::log!(
                    Debug,
                    "connection not cleansed",
                    endpoint = pool.endpoint.name.address,
                    error = error
                );
                Ending::Close(reason)
            }
        };
        fault::point("cleanse.done");
        leased.end(ending);
    })
    .detach();
}

async fn finish<P: Protocol>(leased: &mut Leased<P>) -> Result<(), String> {
    let site = Rc::clone(&leased.pool().endpoint.site);
    let net = &site.core.net;
    let mut timer = net.timer();
    timer.set(net.now().plus(P::CLEANSE_LIMIT));
    let connection = leased.connection_mut();
    loop {
        let received = poll_fn(|cx| {
            let received = connection.stream.poll_receive(cx);
            if received.is_ready() {
                return received.map_err(|error| error.to_string());
            }
            timer.poll(cx).map(|()| Err("no answer in time".to_owned()))
        });
        let Some(mut buf) = received.await? else {
            return Err("the server has closed it".to_owned());
        };
        let answered = P::on_cleanse_reply(&mut connection.session, &mut buf);
        site.tell_others();
        if answered? {
            return Ok(());
        }
    }
}
