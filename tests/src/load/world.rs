//! What the actors share: users, rooms, and the patience to ask until there is an answer.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{journal::Journal, mix::Mix, residents::Residents, told::Told};
use crate::{Client, Failure, escape};

/// Users who write.
pub(super) const WRITERS: usize = 4;
/// Rooms that they write to.
pub(super) const ROOMS: usize = 3;
pub(super) const PASSWORD: &str = "a long password";
/// Bytes of an answer that are noted.
const SHOWN: usize = 160;
/// The type of the state that writers set, each under a key of their own.
pub(super) const COUNT: &str = "org.polity.count";

/// An event that a client was promised.
pub(super) struct Promised {
    pub(super) room: usize,
    pub(super) event_id: String,
    /// What names it: the writer, and the writer's count.
    pub(super) tag: String,
    /// The event that it redacts.
    pub(super) redacts: Option<String>,
    /// How often it was asked for.
    pub(super) tries: usize,
    /// When it was asked for first.
    pub(super) asked: Instant,
}

/// A receipt that was acknowledged.
#[derive(Clone)]
pub(super) struct Receipt {
    pub(super) event_id: String,
    pub(super) is_private: bool,
    /// When.
    pub(super) at: Instant,
}

/// Something that was acknowledged to who doesn't come back for it.
pub(super) struct Kept {
    /// Who finds it.
    pub(super) by: Client,
    /// Where.
    pub(super) path: String,
    /// What names it in the journal.
    pub(super) tag: String,
    /// What is in the answer there.
    pub(super) shows: String,
}

/// Numbers that were set as account data.
#[derive(Default)]
pub(super) struct AccountData {
    /// The last one, of a room and of none.
    pub(super) set: HashMap<bool, u64>,
    /// Those that were asked for more than once: the first try may be carried out late.
    pub(super) tried: HashSet<u64>,
}

/// What was acknowledged of the devices of who is watched.
#[derive(Default, Clone)]
pub(super) struct Devices {
    /// A sync of who watches: at that time a room was shared, encrypted or not.
    pub(super) since: Option<String>,
    /// The number that the first device has, at least; nothing where an older one may come back.
    pub(super) number: Option<u64>,
    /// The second device, once its keys were acknowledged, and until it is logged out.
    pub(super) second: Option<String>,
    /// Devices that were logged out.
    pub(super) gone: HashSet<String>,
    /// How often it began to change whether an encrypted room is shared, and whether it is: nothing while that isn't sure.
    pub(super) shared: (u64, Option<bool>),
}

/// See the module.
pub(super) struct World {
    pub(super) journal: Arc<Journal>,
    /// Nobody yet, at the server.
    pub(super) stranger: Client,
    pub(super) rooms: Vec<String>,
    pub(super) writers: Vec<Client>,
    /// By name: who isn't a writer.
    pub(super) others: HashMap<&'static str, Client>,
    /// Somebody of another tenant, and a room there.
    pub(super) neighbour: Option<(Client, String)>,
    /// No new work from now on.
    pub(super) done: CancellationToken,
    /// All work has ended: what a reader doesn't see now it never will.
    pub(super) quiet: AtomicBool,
    pub(super) promised: Mutex<Vec<Promised>>,
    pub(super) kept: Mutex<Vec<Kept>>,
    /// The receipts that were acknowledged, by room.
    pub(super) receipts: Mutex<BTreeMap<usize, Vec<Receipt>>>,
    /// Events at which nobody else may be shown a receipt.
    pub(super) read_in_private: Mutex<HashSet<String>>,
    /// The account data that was acknowledged last: the user's own, and that of a room.
    pub(super) account_data: Mutex<AccountData>,
    pub(super) devices: Mutex<Devices>,
    /// How many messages to the device were acknowledged, by sender.
    pub(super) sent_to_device: Mutex<HashMap<String, u64>>,
    /// What the guest was told of the first room: its timeline, one stretch in it after the other, and what was beside.
    pub(super) stretches: Mutex<Vec<Vec<String>>>,
    pub(super) guest_told: Mutex<Told>,
    /// What the guest is in the first room, as it was told last; nothing while it is about to change.
    pub(super) guest: Mutex<(u64, Option<bool>)>,
    /// Pauses are so many times as long.
    slower: u64,
    /// All write to the last room.
    crowd: bool,
    seed: u64,
}

/// A good answer, and how often it was asked for.
pub(super) struct Answered {
    pub(super) value: Value,
    pub(super) tries: usize,
}

/// A refusal, and how often it was asked for.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) tries: usize,
}

impl World {
    /// Who is there already, and who takes part.
    pub(super) fn new(stranger: Client, residents: Residents, journal: Arc<Journal>, mix: &Mix) -> Self {
        let Residents { rooms, writers, others, neighbour } = residents;
        Self {
            seed: journal.seed(),
            journal,
            stranger,
            rooms,
            writers,
            others,
            neighbour,
            done: CancellationToken::new(),
            quiet: AtomicBool::new(false),
            promised: Mutex::default(),
            kept: Mutex::default(),
            receipts: Mutex::default(),
            read_in_private: Mutex::default(),
            account_data: Mutex::default(),
            devices: Mutex::default(),
            sent_to_device: Mutex::default(),
            stretches: Mutex::default(),
            guest_told: Mutex::default(),
            guest: Mutex::default(),
            slower: mix.slower,
            crowd: mix.crowd,
        }
    }

    /// Asks once, and doesn't come back if there is no answer; what was answered.
    pub(super) async fn ask_once(
        &self,
        client: &Client,
        tag: &str,
        (method, path): (Method, &str),
        body: Value,
    ) -> Option<Value> {
        let shown = format!("asks once: {method} {path}");
        match client.call(method, path, Some(body)).await {
            Ok(answer) => {
                self.journal.note(tag, format!("{shown}: {}", short(&answer)));
                Some(answer)
            }
            Err(Failure::Refused(status, body)) if !status.is_server_error() => {
                self.journal.fail(format!("who {shown} is refused: {status} {body}"), &[tag])
            }
            Err(failure) => {
                self.journal.note(tag, format!("{shown}: {failure}"));
                None
            }
        }
    }

    /// Notes that something was acknowledged, and who finds it at `path`: an answer in which `shows` is.
    pub(super) async fn keep(&self, by: &Client, tag: &str, path: String, shows: &str) {
        let (by, tag, shows) = (by.clone(), tag.to_owned(), shows.to_owned());
        self.kept.lock().await.push(Kept { by, path, tag, shows });
    }

    /// The same of an event that was sent to this path.
    pub(super) async fn keep_event(&self, by: &Client, tag: &str, (sent_to, answer): (&str, &Value)) {
        let (room, _) = sent_to.split_once("/send/").unwrap_or((sent_to, ""));
        let event_id = text(answer, "event_id");
        self.keep(by, tag, format!("{room}/event/{}", escape(event_id)), event_id).await;
    }

    /// A moment between two things that needn't be many.
    pub(super) async fn breathe(&self, random: &mut StdRng, at_most_ms: u64) {
        let ms = random.random_range(1..at_most_ms) * self.slower;
        // Whoever has nothing more to do ends at once.
        let _ = tokio::time::timeout(Duration::from_millis(ms), self.done.cancelled()).await;
    }

    /// Between two events of a writer there is no moment, unless all are slower than they could be.
    pub(super) async fn breathe_between_events(&self, random: &mut StdRng) {
        if self.slower > 1 {
            self.breathe(random, 30).await;
        }
    }

    /// To which of the rooms something is written.
    pub(super) fn any_room(&self, random: &mut StdRng) -> usize {
        let any = random.random_range(0..ROOMS);
        if self.crowd { ROOMS - 1 } else { any }
    }

    /// Waits until there is to be no new work.
    pub(super) async fn done(&self) {
        self.done.cancelled().await;
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.is_cancelled()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::SeqCst)
    }

    /// Randomness of one actor's own.
    pub(super) fn random(&self, actor: &str) -> StdRng {
        let own = actor.bytes().fold(self.seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        StdRng::seed_from_u64(own)
    }

    /// Asks until there is an answer that isn't the server's fault. `tag` names it in the journal.
    pub(super) async fn ask(
        &self,
        client: &Client,
        tag: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answered, Refused> {
        let shown = path_without_filter(path);
        for tries in 1.. {
            match client.call(method.clone(), path, body.cloned()).await {
                Ok(value) => {
                    self.journal.note(tag, format!("{method} {shown}: {}", short(&value)));
                    return Ok(Answered { value, tries });
                }
                Err(Failure::Refused(status, body)) if !status.is_server_error() => {
                    self.journal.note(tag, format!("{method} {shown}: refused, {status} {}", short(&body)));
                    return Err(Refused { status, body, tries });
                }
                Err(failure) => {
                    // Only the first of many that go nowhere while the server starts.
                    if tries == 1 || matches!(failure, Failure::Refused(..)) {
                        self.journal.note(tag, format!("{method} {shown}: {failure}"));
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        unreachable!("it is asked for ever")
    }

    /// The same where a refusal is a fault.
    pub(super) async fn must(
        &self,
        client: &Client,
        tag: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answered {
        match self.ask(client, tag, method.clone(), path, body).await {
            Ok(answered) => answered,
            Err(refused) => self.journal.fail(format!("{method} {path} is refused: {refused:?}"), &[tag]),
        }
    }

    pub(super) async fn get(&self, client: &Client, tag: &str, path: &str) -> Value {
        self.must(client, tag, Method::GET, path, None).await.value
    }
}

/// A path that people can read.
fn path_without_filter(path: &str) -> String {
    let parts = path.split('&').filter(|part| !part.starts_with("filter="));
    parts.collect::<Vec<_>>().join("&")
}

/// The beginning of a value.
fn short(value: &Value) -> String {
    let mut text = Beginning(String::new());
    if write!(text, "{value}").is_err() {
        text.0.push_str("...");
    }
    text.0
}

/// Takes no more than fits into a line.
struct Beginning(String);

impl fmt::Write for Beginning {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let left = SHOWN.saturating_sub(self.0.len());
        let fits = (0..=left.min(more.len())).rev().find(|at| more.is_char_boundary(*at)).unwrap_or(0);
        self.0.push_str(&more[..fits]);
        if fits < more.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A text field of a value.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
