//! The promises of the service, as a small model that shares no code with it.

use std::collections::BTreeMap;

pub const MAX_QUANTITY: i32 = 4;

#[derive(Clone, Debug)]
pub enum Step {
    Reserve {
        user: u8,
        quantity: i32,
        confirm: bool,
    },
    Confirm {
        user: u8,
        quantity: i32,
    },
    Cancel {
        user: u8,
        quantity: i32,
    },
    Extend {
        user: u8,
    },
    Amend {
        user: u8,
        quantity: i32,
    },
    Join {
        user: u8,
        quantity: i32,
        min_quantity: i32,
    },
    Leave {
        user: u8,
    },
    /// The user's hold reaches its end and is not released.
    Lapse {
        user: u8,
    },
    Resize {
        capacity: i32,
    },
    Switch,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Life {
    Held { extensions: i32 },
    Lapsed,
    Confirmed,
    Cancelled,
}

/// The waitlist's policy in one case.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub max_size: usize,
    pub max_skips: i32,
    pub newcomers_may_overtake: bool,
}

/// A party in the waitlist.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    pub user: u8,
    pub quantity: i32,
    pub min_quantity: i32,
    pub skips: i32,
}

/// One event, its reservations and its waitlist.
#[derive(Clone, Debug)]
pub struct Model {
    pub rules: Rules,
    pub capacity: i32,
    pub open: bool,
    /// The newest reservation of each user.
    pub users: BTreeMap<u8, (Life, i32)>,
    /// The users of lapsed holds that are not released yet, in the order in which they lapsed.
    pub unreleased: Vec<(u8, i32)>,
    pub line: Vec<Party>,
    /// The users who ever joined, with their quantities.
    pub joined: BTreeMap<u8, i32>,
}

/// The units that the user has afterwards, or the reason of the refusal.
pub type Answer = Result<i32, &'static str>;

impl Model {
    pub fn taken(&self) -> i32 {
        let takes = |life: &Life| matches!(life, Life::Held { .. } | Life::Confirmed);
        self.users.values().filter(|(life, _)| takes(life)).map(|(_, quantity)| quantity).sum()
    }

    fn live(&self, user: u8) -> Result<(Life, i32), &'static str> {
        match self.users.get(&user) {
            None => Err("RESERVATION_NOT_FOUND"),
            Some((Life::Lapsed, _)) => Err("HOLD_EXPIRED"),
            Some((Life::Cancelled, _)) => Err("NOT_LIVE"),
            Some(live) => Ok(*live),
        }
    }

    fn free(&self) -> i32 {
        self.capacity - self.taken() - self.unreleased.iter().map(|(_, quantity)| quantity).sum::<i32>()
    }

    /// Releases lapsed holds, oldest first, until these units are free.
    fn reclaim(&mut self, units: i32) -> bool {
        while self.free() < units && !self.unreleased.is_empty() {
            self.unreleased.remove(0);
        }
        self.free() >= units
    }

    fn take(&mut self, units: i32) -> Result<(), &'static str> {
        if !self.line.is_empty() && !self.rules.newcomers_may_overtake {
            return Err("WAITLIST_AHEAD");
        }
        if self.reclaim(units) { Ok(()) } else { Err("SOLD_OUT") }
    }

    /// Gives free units to the parties whose turn it is.
    fn serve(&mut self) {
        while self.open && self.free() > 0 && !self.line.is_empty() {
            let free = self.free();
            let fits = |party: &Party| party.min_quantity <= free;
            let may_skip = self.line[0].skips < self.rules.max_skips;
            let Some(next) = self.line.iter().position(fits).filter(|place| *place == 0 || may_skip) else { return };
            if next > 0 {
                self.line[0].skips += 1;
            }
            let Party { user, quantity, .. } = self.line.remove(next);
            self.users.insert(user, (Life::Held { extensions: 0 }, quantity.min(free)));
        }
    }

    fn set(&mut self, user: u8, life: Life, quantity: i32) -> Answer {
        self.users.insert(user, (life, quantity));
        Ok(quantity)
    }

    /// A step and the promotions that follow; a refusal changes nothing.
    pub fn apply(&mut self, step: &Step) -> Answer {
        let mut next = self.clone();
        let answer = next.try_to(step)?;
        next.serve();
        *self = next;
        Ok(answer)
    }

    fn try_to(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Reserve { user, quantity, confirm } => {
                if !self.open {
                    return Err("EVENT_NOT_OPEN");
                }
                if quantity > MAX_QUANTITY {
                    return Err("QUANTITY_LIMIT");
                }
                if self.live(user).is_ok() {
                    return Err("ALREADY_RESERVED");
                }
                self.unreleased.retain(|(of, _)| *of != user);
                self.take(quantity)?;
                self.line.retain(|party| party.user != user);
                let life = if confirm { Life::Confirmed } else { Life::Held { extensions: 0 } };
                self.set(user, life, quantity)
            }
            Step::Confirm { user, quantity } => match self.live(user)? {
                (Life::Confirmed, _) => Err("NOT_HELD"),
                (_, has) if quantity > has => Err("QUANTITY_LIMIT"),
                (_, has) => self.set(user, Life::Confirmed, if quantity == 0 { has } else { quantity }),
            },
            Step::Cancel { user, quantity } => match self.live(user)? {
                (_, has) if quantity > has => Err("QUANTITY_LIMIT"),
                (life, has) if quantity > 0 && quantity < has => self.set(user, life, has - quantity),
                (_, has) => self.set(user, Life::Cancelled, has),
            },
            Step::Extend { user } => match self.live(user)? {
                (Life::Held { extensions }, has) if extensions < 2 => {
                    self.set(user, Life::Held { extensions: extensions + 1 }, has)
                }
                (Life::Held { .. }, _) => Err("EXTENSION_LIMIT"),
                _ => Err("NOT_HELD"),
            },
            Step::Amend { user, quantity } => {
                let (life, has) = self.live(user)?;
                if quantity > has {
                    if !self.open {
                        return Err("EVENT_NOT_OPEN");
                    }
                    if quantity > MAX_QUANTITY {
                        return Err("QUANTITY_LIMIT");
                    }
                    self.take(quantity - has)?;
                }
                self.set(user, life, quantity)
            }
            Step::Join { user, quantity, min_quantity } => {
                if !self.open {
                    return Err("EVENT_NOT_OPEN");
                }
                if quantity > MAX_QUANTITY || min_quantity > self.capacity {
                    return Err("QUANTITY_LIMIT");
                }
                if self.live(user).is_ok() {
                    return Err("ALREADY_RESERVED");
                }
                if self.line.iter().any(|party| party.user == user) {
                    return Err("ALREADY_WAITING");
                }
                self.unreleased.retain(|(of, _)| *of != user);
                if self.line.is_empty() && self.reclaim(min_quantity) {
                    return Err("NOT_SOLD_OUT");
                }
                if self.line.len() >= self.rules.max_size {
                    return Err("WAITLIST_FULL");
                }
                self.line.push(Party { user, quantity, min_quantity, skips: 0 });
                self.joined.insert(user, quantity);
                Ok(quantity)
            }
            Step::Leave { user } => {
                let quantity = *self.joined.get(&user).ok_or("WAITLIST_ENTRY_NOT_FOUND")?;
                let place = self.line.iter().position(|party| party.user == user).ok_or("NOT_WAITING")?;
                self.line.remove(place);
                Ok(quantity)
            }
            Step::Lapse { user } => {
                if let Some((life @ Life::Held { .. }, quantity)) = self.users.get_mut(&user) {
                    *life = Life::Lapsed;
                    self.unreleased.push((user, *quantity));
                }
                Ok(0)
            }
            Step::Resize { capacity } => {
                if !self.reclaim(self.capacity - capacity) {
                    return Err("CAPACITY_BELOW_RESERVED");
                }
                self.capacity = capacity;
                self.line.retain(|party| party.min_quantity <= capacity);
                Ok(0)
            }
            Step::Switch => {
                self.open = !self.open;
                Ok(0)
            }
        }
    }
}
