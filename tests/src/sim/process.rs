//! A process as far as its tasks can tell: they go on with it, stop with it, and end with it between any two of their steps.

use std::{
    panic::Location,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use polity_core::tasks;
use tokio::{sync::watch, task::AbortHandle};

use super::{chance::Chance, clock::SimClock, weather::Weather};

/// Handles of tasks are looked through for those that have ended when there are so many more.
const PRUNE: usize = 256;

/// See the module. Ended once, it never comes back: a restart is another one.
pub(super) struct Process {
    /// The node and the number of its run.
    pub(super) name: String,
    weather: Arc<Weather>,
    pub(super) clock: Arc<SimClock>,
    pub(super) chance: Arc<Chance>,
    /// Of so many steps one is put off, so that other tasks go first; 0: none.
    put_off: u64,
    state: Mutex<State>,
    /// What the state says, for who waits for it.
    stopped: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    ended: bool,
    /// After so many further steps it is killed.
    last_steps: Option<u64>,
    /// After so many further steps it is stopped.
    stops_in: Option<u64>,
    /// Who goes on when it does.
    waiting: Vec<Waker>,
    tasks: Vec<Task>,
    prune_at: usize,
    /// Tasks that it began before it was ready: they last as long as it does.
    lasting: u64,
    /// Tasks that it ever began.
    begun: u64,
}

struct Task {
    handle: AbortHandle,
    number: u64,
    by: &'static Location<'static>,
}

impl State {
    /// Takes a step; whether that stops it.
    fn step(&mut self) -> bool {
        let Some(left) = self.stops_in else { return false };
        self.stops_in = left.checked_sub(1);
        left == 0
    }
}

impl Process {
    pub(super) fn new(
        name: String,
        weather: Arc<Weather>,
        clock: SimClock,
        (chance, put_off): (Chance, u64),
    ) -> Arc<Self> {
        let (clock, chance) = (Arc::new(clock), Arc::new(chance));
        let (stopped, ended) = (watch::Sender::new(false), watch::Sender::new(false));
        Arc::new(Self { name, weather, clock, chance, put_off, state: Mutex::default(), stopped, ended })
    }

    /// As the owner of tasks.
    pub(super) fn owner(self: &Arc<Self>) -> Arc<dyn tasks::Process> {
        Arc::clone(self) as _
    }

    /// `SIGKILL`: nothing of it goes on.
    pub(super) fn kill(&self) {
        let tasks = {
            let mut state = self.state.lock();
            if !std::mem::replace(&mut state.ended, true) {
                // Here, and not by who waits for it: in which order those go on is left to chance.
                self.weather.note(&self.name, "is gone");
            }
            state.waiting.clear();
            std::mem::take(&mut state.tasks)
        };
        tasks.iter().for_each(|task| task.handle.abort());
        self.ended.send_replace(true);
    }

    /// It is ready: what it begins from now on is to end.
    pub(super) fn is_ready(&self) {
        let mut state = self.state.lock();
        state.lasting = state.begun;
    }

    /// What the product began in it since it was ready, and hasn't ended: where it was begun.
    pub(super) fn unfinished(&self) -> Vec<&'static Location<'static>> {
        let state = self.state.lock();
        let unfinished = state.tasks.iter().filter(|task| task.number > state.lasting && !task.handle.is_finished());
        unfinished.map(|task| task.by).filter(|by| by.file().contains("services/")).collect()
    }

    /// `SIGKILL` after so many further steps of its tasks.
    pub(super) fn kill_after(&self, steps: u64) {
        self.state.lock().last_steps = Some(steps);
    }

    /// `SIGSTOP` after so many further steps of its tasks, unless it is to go on before.
    pub(super) fn stop_after(&self, steps: u64) {
        self.state.lock().stops_in = Some(steps);
    }

    /// `SIGSTOP` now.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.stopped.send_replace(true);
    }

    /// Whether it is stopped.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// `SIGCONT`.
    pub(super) fn go_on(&self) {
        let waiting = {
            let mut state = self.state.lock();
            (state.stopped, state.stops_in) = (false, None);
            self.stopped.send_replace(false);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.state.lock().ended
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        // The sender is this.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

impl tasks::Process for Process {
    fn step(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.ended {
            return Poll::Pending;
        }
        match &mut state.last_steps {
            Some(0) => {
                drop(state);
                self.kill();
                return Poll::Pending;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if !state.stopped && state.step() {
            state.stopped = true;
            self.stopped.send_replace(true);
        }
        if state.stopped {
            state.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        if self.chance.one_in(self.put_off) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn began(&self, handle: AbortHandle, by: &'static Location<'static>) {
        let mut state = self.state.lock();
        if state.ended {
            return handle.abort();
        }
        if state.tasks.len() >= state.prune_at {
            state.tasks.retain(|task| !task.handle.is_finished());
            state.prune_at = state.tasks.len() + PRUNE;
        }
        state.begun += 1;
        let number = state.begun;
        state.tasks.push(Task { handle, number, by });
    }
}
