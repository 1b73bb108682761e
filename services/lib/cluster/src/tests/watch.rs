//! Who is closed, by whom, and who isn't.

use polity_core::{Clock, SystemRandom, tasks};
use polity_log::{MemberState, Registry};
use polity_store::Store;
use polity_store_local::LocalStore;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::{Connect, Watch};

/// The time of a test's runtime.
struct TestClock(Instant);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        0
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Cluster {
    store: Arc<dyn Store>,
    processes: Arc<Mutex<HashMap<String, Arc<Process>>>>,
    running: Vec<(Arc<Process>, JoinHandle<()>)>,
}

impl Cluster {
    fn new() -> Self {
        let store = LocalStore::memory(Arc::new(TestClock(Instant::now())), &SystemRandom).unwrap();
        Self { store, processes: Arc::default(), running: Vec::new() }
    }

    /// Starts a process on a node.
    async fn start(&mut self, n: u8, node: &str) {
        let mut process = Process::new(n);
        Arc::get_mut(&mut process).unwrap().member.node = node.into();
        self.processes.lock().insert(n.to_string(), Arc::clone(&process));
        let known = Arc::clone(&self.processes);
        let connect: Arc<dyn Connect> = Arc::new(move |address: &str| {
            let process = Arc::clone(&known.lock()[address]);
            Transport::new(service_fn(move |call| {
                let process = Arc::clone(&process);
                async move { Ok(process.answer(call).await) }
            }))
        });
        let this = process.member.clone();
        let watch = Watch {
            registry: Registry::join(Arc::clone(&self.store), &this).await.unwrap(),
            store: Arc::clone(&self.store),
            live: Live::new(this.incarnation),
            this,
            connect,
            clock: Arc::new(TestClock(Instant::now())),
            uses: Vec::new(),
        };
        self.running.push((process, tasks::spawn(watch.run())));
    }

    /// Its beat stands still; it may answer or not.
    fn stop_beat(&self, at: usize) {
        self.running[at].1.abort();
    }

    async fn states(&self) -> Vec<MemberState> {
        let this = Member::new(IncarnationId::new([200; 16]), ROOM_STATE, "looks", "");
        let mut members = Registry::join(Arc::clone(&self.store), &this).await;
        if members.is_err() {
            members = Registry::join(Arc::clone(&self.store), &Member { incarnation: random(), ..this }).await;
        }
        let looks = members.unwrap();
        let members = looks.members().await.unwrap();
        looks.leave().await.unwrap();
        let of = |process: &Process| members.iter().find(|m| m.incarnation == process.member.incarnation);
        self.running.iter().map(|(process, _)| of(process).unwrap().state).collect()
    }
}

fn random() -> IncarnationId {
    let random: &dyn polity_core::Random = &SystemRandom;
    IncarnationId::new(random.bytes())
}

const OPEN: MemberState = MemberState::Open;
const DRAINED: MemberState = MemberState::Drained;

impl Cluster {
    /// Waits until the states are these; how long that took. (A store's thread takes no time, but the paused clock goes on meanwhile.)
    async fn until(&self, wanted: &[MemberState]) -> Duration {
        let began = Instant::now();
        while self.states().await != wanted {
            assert!(began.elapsed() < Duration::from_secs(3_000), "{:?}", self.states().await);
            seconds(1).await;
        }
        began.elapsed()
    }
}

async fn seconds(s: u64) {
    tokio::time::sleep(Duration::from_secs(s)).await;
}

#[tokio::test(start_paused = true)]
async fn who_neither_beats_nor_answers_is_closed_and_who_still_answers_is_not() {
    let mut cluster = Cluster::new();
    for n in 1..=3 {
        cluster.start(n, &n.to_string()).await;
    }
    seconds(20).await;
    assert_eq!(cluster.states().await, [OPEN, OPEN, OPEN]);
    cluster.stop_beat(0);
    seconds(60).await;
    assert_eq!(cluster.states().await, [OPEN, OPEN, OPEN], "it answers");
    cluster.running[0].0.is(Mode::Hangs);
    cluster.stop_beat(1);
    cluster.running[1].0.is(Mode::Hangs);
    cluster.until(&[DRAINED, OPEN, OPEN]).await;
    let took = cluster.until(&[DRAINED, DRAINED, OPEN]).await;
    assert!(took >= Duration::from_secs(20), "no more than one in half a minute, {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_hung_is_closed_after_ten_seconds_and_ends_when_it_goes_on() {
    let mut cluster = Cluster::new();
    for n in 1..=2 {
        cluster.start(n, &n.to_string()).await;
    }
    seconds(5).await;
    // Stopped: it neither beats nor answers.
    cluster.stop_beat(0);
    cluster.running[0].0.is(Mode::Hangs);
    let took = cluster.until(&[DRAINED, OPEN]).await;
    assert!(took >= Duration::from_secs(8), "{took:?}");
    // It goes on: it watches again, and sees.
    let (process, _) = &cluster.running[0];
    let watch = Watch {
        registry: Registry::join(
            Arc::clone(&cluster.store),
            &Member { incarnation: random(), ..process.member.clone() },
        )
        .await
        .unwrap(),
        store: Arc::clone(&cluster.store),
        live: Live::new(process.member.incarnation),
        this: process.member.clone(),
        connect: Arc::new(|_: &str| ClusterService::new(Journal::new(IncarnationId::new([0; 16]))).transport()),
        clock: Arc::new(TestClock(Instant::now())),
        uses: Vec::new(),
    };
    watch.run().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_of_power_those_whose_nodes_never_come_back_are_closed_too() {
    let mut cluster = Cluster::new();
    for n in 1..=4 {
        cluster.start(n, &n.to_string()).await;
    }
    seconds(5).await;
    for (process, run) in &cluster.running {
        process.is(Mode::Hangs);
        run.abort();
    }
    seconds(100).await;
    for n in 1..=2 {
        // By its node's name an earlier run is closed at once.
        cluster.start(n + 10, &n.to_string()).await;
        let this = cluster.running.last().unwrap().0.member.clone();
        let helper = Member { incarnation: random(), node: "h".into(), ..this.clone() };
        let registry = Registry::join(Arc::clone(&cluster.store), &helper).await.unwrap();
        let dead: Vec<_> = registry.predecessors(&this.node).await.unwrap();
        for dead in dead.into_iter().filter(|dead| dead.incarnation != this.incarnation) {
            polity_log::recover(&registry, dead.incarnation, &[]).await.unwrap();
        }
        registry.leave().await.unwrap();
    }
    assert_eq!(cluster.states().await[..2], [DRAINED, DRAINED]);
    let took = cluster.until(&[DRAINED, DRAINED, DRAINED, DRAINED, OPEN, OPEN]).await;
    assert!(took >= Duration::from_secs(30), "one after the other, {took:?}");
}

/// The registry is read whole again and again: it holds what runs, and what ended a while ago.
#[tokio::test(start_paused = true)]
async fn who_ended_long_ago_is_taken_out_of_the_registry() {
    const RESTARTS: u64 = 12;
    let mut cluster = Cluster::new();
    for n in 1..=2 {
        cluster.start(n, &n.to_string()).await;
    }
    let join = async |member: Member| Registry::join(Arc::clone(&cluster.store), &member).await.unwrap();
    for _ in 0..RESTARTS / 2 {
        // Every other one is killed, and the next run finishes what it left.
        let member = Member::new(random(), ROOM_STATE, "restarts", "");
        join(member.clone()).await;
        let next = join(Member { incarnation: random(), ..member.clone() }).await;
        polity_log::recover(&next, member.incarnation, &[]).await.unwrap();
        next.leave().await.unwrap();
    }
    let looks = join(Member::new(random(), ROOM_STATE, "looks", "")).await;
    let began = Instant::now();
    loop {
        let listed = looks.listed().await.unwrap();
        // Who looks doesn't beat: it is closed, and goes in the end, too.
        let looking = |member: &Member| &*member.node == "looks";
        let gone = u64::from(!listed.members.iter().any(looking));
        let ended = listed.members.iter().filter(|member| member.state == DRAINED && !looking(member)).count() as u64;
        assert_eq!(ended + listed.pruned, RESTARTS + gone, "each is there or counted");
        if ended == 0 {
            break;
        }
        // (The paused clock goes on while the store's thread works.)
        assert!(began.elapsed() < Duration::from_secs(20_000), "{ended} are left");
        seconds(20).await;
    }
    assert!(began.elapsed() > Duration::from_secs(300), "not at once");
}
