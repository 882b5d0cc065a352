//! Whose turn it is.
//!
//! A guest cannot be paused, so who gets how much of the workers is decided when one is free, by three rules:
//!
//! 1. The caller goes first whose tenant has had the least of the workers' time; among equals, who came first.
//! 2. Tenants that are over their share hold at most half of the workers together. Over its share is who has had more time
//!    than the average tenant, or would hold more than its part of the workers at this moment.
//! 3. No more than a number of callers wait. Beyond it, the tenant with the most callers in the queue loses its last.
//!
//! Time is counted while a guest has a worker, and when the worker is lost on the way, until another stands in its place:
//! who breaks workers pays for them. What was long ago counts less: every account is halved every ten seconds.
//!
//! All of it is arithmetic: nothing here waits, looks at a clock or knows a process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How often what everybody has had is halved.
const HALVE_EVERY: Duration = Duration::from_secs(10);

/// How long a tenant is remembered that asks for nothing.
const REMEMBER: Duration = Duration::from_mins(1);

/// Tenants remembered though they ask for nothing now.
const MOST_REMEMBERED: usize = 1024;

/// Who asks. Callers that name nobody are one tenant together.
pub(super) type Tenant = Option<Arc<str>>;

/// A caller's place: waiting, or with a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    tenant: Tenant,
    number: u64,
}

impl Ticket {
    /// No other ticket of the queue has this number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// Who waits, who has a worker, and what everybody has had. Times are since the queue was made, and never go back.
#[derive(Debug)]
pub(super) struct Queue {
    workers: usize,
    most_waiting: usize,
    accounts: HashMap<Tenant, Account>,
    /// Processes there are, with a guest or without.
    living: usize,
    /// Callers with a worker.
    busy: usize,
    /// Places that stay taken because the worker was lost and no other is there.
    gaps: usize,
    waiting: usize,
    /// Who lost a worker that is not replaced yet, oldest first.
    owing: VecDeque<Ticket>,
    next_number: u64,
    halved: Duration,
}

/// What one tenant has had, has and wants.
#[derive(Debug, Default)]
struct Account {
    had: Duration,
    /// When it last asked for something or gave something back.
    seen: Duration,
    waiting: VecDeque<u64>,
    holds: Vec<Hold>,
}

#[derive(Debug)]
struct Hold {
    number: u64,
    /// Since when it is counted; `None` where it no longer is.
    since: Option<Duration>,
    /// It keeps others from a worker.
    takes_place: bool,
}

/// What is fair at one moment.
struct Fair {
    /// The time that the average tenant has had.
    time: Duration,
    /// Workers for each.
    places: usize,
}

impl Queue {
    /// A queue for so many workers, at least one, none of which has come up yet.
    pub(super) fn new(workers: usize, most_waiting: usize) -> Self {
        Self {
            workers: workers.max(1),
            most_waiting,
            accounts: HashMap::new(),
            living: 0,
            busy: 0,
            gaps: 0,
            waiting: 0,
            owing: VecDeque::new(),
            next_number: 0,
            halved: Duration::ZERO,
        }
    }

    /// How many callers wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many processes there are, with a guest or without.
    pub(super) fn living(&self) -> usize {
        self.living
    }

    /// A caller comes. It waits until [`Queue::admit`] says its number.
    pub(super) fn enter(&mut self, tenant: Tenant, now: Duration) -> Ticket {
        self.age(now);
        if !self.accounts.contains_key(&tenant) && self.accounts.len() >= MOST_REMEMBERED {
            self.forget_one();
        }
        let number = self.next_number;
        self.next_number += 1;
        let account = self.accounts.entry(tenant.clone()).or_default();
        account.seen = now;
        account.waiting.push_back(number);
        self.waiting += 1;
        Ticket { tenant, number }
    }

    /// The number of the caller who is to be turned away, where more wait than may. To be asked until it says none.
    pub(super) fn turn_away(&mut self, now: Duration) -> Option<u64> {
        if self.waiting <= self.most_waiting {
            return None;
        }
        let most = self
            .accounts
            .values_mut()
            .filter(|account| !account.waiting.is_empty())
            .max_by_key(|account| {
                let last = account.waiting.back().copied();
                (account.waiting.len(), account.had_by(now), last)
            })?;
        let number = most.waiting.pop_back()?;
        self.waiting -= 1;
        Some(number)
    }

    /// A caller no longer wants to wait. False where it does not: it was admitted or turned away meanwhile.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        let Some(account) = self.accounts.get_mut(&ticket.tenant) else {
            return false;
        };
        let Some(at) = account.waiting.iter().position(|number| *number == ticket.number) else {
            return false;
        };
        account.waiting.remove(at);
        self.waiting -= 1;
        true
    }

    /// The number of the caller whose turn it is, if a worker is free that it may have. To be asked until it says none.
    pub(super) fn admit(&mut self, now: Duration) -> Option<u64> {
        self.age(now);
        if self.waiting == 0 || self.busy + self.gaps >= self.workers || self.busy >= self.living {
            return None;
        }
        let fair = self.fair(now);
        let may_go_over = self.held_over(&fair, now) < self.most_over();
        let next = self
            .accounts
            .values_mut()
            .filter(|account| !account.waiting.is_empty())
            .filter(|account| may_go_over || !account.would_be_over(&fair, now))
            .min_by_key(|account| (account.had_by(now), account.waiting.front().copied()))?;
        let number = next.waiting.pop_front()?;
        next.holds.push(Hold {
            number,
            since: Some(now),
            takes_place: true,
        });
        self.waiting -= 1;
        self.busy += 1;
        Some(number)
    }

    /// A caller is done, and its worker can have another guest. Also where it had none yet, and goes without.
    pub(super) fn release(&mut self, ticket: &Ticket, now: Duration) {
        if self.settle(ticket, now) {
            self.busy -= 1;
        }
    }

    /// A caller is done, and its worker is no more. Where no spare one is there, the place stays taken for now.
    pub(super) fn lose(&mut self, ticket: &Ticket, now: Duration) {
        self.living = self.living.saturating_sub(1);
        let stays_taken = self.living < self.workers;
        let hold = self.accounts.get_mut(&ticket.tenant).and_then(|account| {
            account.seen = now;
            account.holds.iter_mut().find(|hold| hold.number == ticket.number)
        });
        if let Some(hold) = hold {
            hold.takes_place = stays_taken;
            self.busy -= 1;
            self.gaps += usize::from(stays_taken);
            self.owing.push_back(ticket.clone());
        }
    }

    /// A process is no more that had no guest.
    pub(super) fn bury(&mut self) {
        self.living = self.living.saturating_sub(1);
    }

    /// A process has come up. It stands for one that was lost, first for one whose place nobody can take until then.
    pub(super) fn welcome(&mut self, now: Duration) {
        self.living += 1;
        let gap = self.owing.iter().position(|ticket| self.takes_place(ticket));
        if let Some(ticket) = self.owing.remove(gap.unwrap_or(0)) {
            self.replaced(&ticket, now);
        }
    }

    /// A process did not come up, and until somebody asks again none will: nobody is made to pay for that. Places that are
    /// taken stay so, for there is nothing to fill them.
    pub(super) fn forgive(&mut self, now: Duration) {
        let owing = std::mem::take(&mut self.owing);
        for ticket in owing {
            let hold = self.accounts.get_mut(&ticket.tenant).and_then(|account| {
                account.charge(now);
                account.holds.iter_mut().find(|hold| hold.number == ticket.number)
            });
            match hold {
                Some(hold) if hold.takes_place => {
                    hold.since = None;
                    self.owing.push_back(ticket);
                }
                _ => self.replaced(&ticket, now),
            }
        }
    }

    fn replaced(&mut self, ticket: &Ticket, now: Duration) {
        let was_gap = self.takes_place(ticket);
        if self.settle(ticket, now) && was_gap {
            self.gaps -= 1;
        }
    }

    fn takes_place(&self, ticket: &Ticket) -> bool {
        let mut holds = self
            .accounts
            .get(&ticket.tenant)
            .into_iter()
            .flat_map(|account| &account.holds);
        holds.any(|hold| hold.number == ticket.number && hold.takes_place)
    }

    /// Counts what a caller had, and takes it off the books. False where it was not on them.
    fn settle(&mut self, ticket: &Ticket, now: Duration) -> bool {
        let Some(account) = self.accounts.get_mut(&ticket.tenant) else {
            return false;
        };
        let Some(at) = account.holds.iter().position(|hold| hold.number == ticket.number) else {
            return false;
        };
        let hold = account.holds.swap_remove(at);
        account.had += hold.counted(now);
        account.seen = now;
        true
    }

    fn fair(&self, now: Duration) -> Fair {
        let total: Duration = self.accounts.values().map(|account| account.had_by(now)).sum();
        let tenants = self.accounts.len().max(1);
        Fair {
            time: total / u32::try_from(tenants).unwrap_or(u32::MAX),
            places: (self.workers / tenants).max(1),
        }
    }

    /// Workers that tenants have beyond their share.
    fn held_over(&self, fair: &Fair, now: Duration) -> usize {
        self.accounts.values().map(|account| account.held_over(fair, now)).sum()
    }

    /// Half, rounded so that one is left for the others where there are two.
    fn most_over(&self) -> usize {
        (self.workers / 2).max(1)
    }

    /// Halves what everybody has had as often as it is time, and forgets who asks for nothing.
    fn age(&mut self, now: Duration) {
        let times = now.saturating_sub(self.halved).as_secs() / HALVE_EVERY.as_secs();
        let Some(times) = u32::try_from(times).ok().filter(|times| *times > 0) else {
            return;
        };
        self.halved += HALVE_EVERY * times;
        let divisor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        self.accounts.retain(|_, account| {
            account.charge(now);
            account.had /= divisor;
            !account.is_idle() || now.saturating_sub(account.seen) < REMEMBER
        });
    }

    /// Makes room for one more tenant, at the least loss: who has had little is soon known again.
    fn forget_one(&mut self) {
        let idle = self.accounts.iter().filter(|(_, account)| account.is_idle());
        let least = idle.min_by_key(|(tenant, account)| (account.had, account.seen, (*tenant).clone()));
        if let Some(tenant) = least.map(|(tenant, _)| tenant.clone()) {
            self.accounts.remove(&tenant);
        }
    }
}

impl Account {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.holds.is_empty()
    }

    fn had_by(&self, now: Duration) -> Duration {
        let running: Duration = self.holds.iter().map(|hold| hold.counted(now)).sum();
        self.had + running
    }

    /// Writes down what is counted so far.
    fn charge(&mut self, now: Duration) {
        self.had = self.had_by(now);
        for since in self.holds.iter_mut().filter_map(|hold| hold.since.as_mut()) {
            *since = now;
        }
    }

    fn places(&self) -> usize {
        self.holds.iter().filter(|hold| hold.takes_place).count()
    }

    fn has_had_more(&self, fair: &Fair, now: Duration) -> bool {
        self.had_by(now) > fair.time
    }

    fn would_be_over(&self, fair: &Fair, now: Duration) -> bool {
        self.has_had_more(fair, now) || self.places() >= fair.places
    }

    fn held_over(&self, fair: &Fair, now: Duration) -> usize {
        if self.has_had_more(fair, now) {
            self.places()
        } else {
            self.places().saturating_sub(fair.places)
        }
    }
}

impl Hold {
    fn counted(&self, now: Duration) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}
