//! The circuit breaker of one detector, written from the section "Breaker" of the design and from
//! nothing else. It keeps every result it was ever told and counts them anew each time.
//!
//! Where the design is silent the model takes the reading that protects the detector: a result of a
//! call that was let in before the last change of state says nothing about the present one, and a
//! hand on the breaker stays until it is taken away.

/// What the file of a detector says under `breaker`; times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `consecutive`: the last `failures` results must all be failures; else the window counts.
    pub consecutive: bool,
    pub failures: usize,
    pub window: u64,
    pub ratio: f64,
    pub open_for: u64,
    pub probes: usize,
}

/// The longest pause that doubling leads to.
const OPEN_MAX: u64 = 5 * 60 * 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Closed,
    Open { until: u64, pause: u64 },
    HalfOpen { pause: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    Open,
    Close,
}

/// How a call ended. A slow answer is `Failed` to whoever counts slow calls; `Dropped` says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    Good,
    Failed,
    Dropped,
}

/// A call that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    era: usize,
}

#[derive(Debug)]
pub struct Model {
    rules: Rules,
    phase: Phase,
    hand: Option<Hand>,
    /// Grows with every change of state, by itself or by hand.
    era: usize,
    /// Results of this era, with their times.
    told: Vec<(u64, bool)>,
    /// Probes of this era that did not end.
    probing: usize,
}

impl Model {
    pub fn new(rules: Rules) -> Self {
        Self { rules, phase: Phase::Closed, hand: None, era: 0, told: vec![], probing: 0 }
    }

    /// The state that an operator reads.
    pub fn state(&mut self, now: u64) -> &'static str {
        self.tick(now);
        match (self.hand, self.phase) {
            (Some(Hand::Open), _) => "open",
            (Some(Hand::Close), _) | (None, Phase::Closed) => "closed",
            (None, Phase::Open { .. }) => "open",
            (None, Phase::HalfOpen { .. }) => "half_open",
        }
    }

    /// A call asks to be let in.
    pub fn admit(&mut self, now: u64) -> Option<Call> {
        self.tick(now);
        let call = Call { era: self.era };
        match (self.hand, self.phase) {
            (Some(Hand::Close), _) | (None, Phase::Closed) => Some(call),
            (Some(Hand::Open), _) | (None, Phase::Open { .. }) => None,
            (None, Phase::HalfOpen { .. }) => {
                let room = self.probing < self.rules.probes;
                self.probing += usize::from(room);
                room.then_some(call)
            }
        }
    }

    /// A call that was let in has ended.
    pub fn end(&mut self, call: Call, result: Result, now: u64) {
        self.tick(now);
        if call.era != self.era || self.hand.is_some() {
            return;
        }
        match (self.phase, result) {
            (Phase::HalfOpen { .. }, Result::Dropped) => self.probing -= 1,
            (Phase::HalfOpen { pause }, Result::Failed) => {
                self.open(now, (2 * pause).min(OPEN_MAX).max(pause))
            }
            (Phase::HalfOpen { .. }, Result::Good) => {
                self.probing -= 1;
                self.told.push((now, true));
                if self.told.len() == self.rules.probes {
                    self.change(Phase::Closed);
                }
            }
            (_, Result::Dropped) => {}
            (_, Result::Good) => self.told.push((now, true)),
            (_, Result::Failed) => {
                self.told.push((now, false));
                if self.is_too_much(now) {
                    self.open(now, self.rules.open_for);
                }
            }
        }
    }

    /// An operator opens or closes it, or with `None` takes the hand away and begins anew.
    pub fn force(&mut self, hand: Option<Hand>) {
        self.hand = hand;
        self.change(Phase::Closed);
    }

    fn is_too_much(&self, now: u64) -> bool {
        let wanted = self.rules.failures;
        if self.rules.consecutive {
            let last = self.told.iter().rev().take(wanted);
            return self.told.len() >= wanted && last.into_iter().all(|(_, good)| !good);
        }
        let recent = self.told.iter().filter(|(at, _)| now - at < self.rules.window);
        let (mut failed, mut all) = (0, 0);
        for (_, good) in recent {
            all += 1;
            failed += usize::from(!good);
        }
        failed >= wanted && failed as f64 >= self.rules.ratio * all as f64
    }

    fn open(&mut self, now: u64, pause: u64) {
        self.change(Phase::Open { until: now + pause, pause });
    }

    fn tick(&mut self, now: u64) {
        if let Phase::Open { until, pause } = self.phase
            && now >= until
        {
            self.change(Phase::HalfOpen { pause });
        }
    }

    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.era += 1;
        self.told.clear();
        self.probing = 0;
    }
}
