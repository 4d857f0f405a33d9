//! Messages of any type: plausible ones, and what programs trip over, in their fields and in their bytes.

use std::collections::HashMap;

use fastrand::Rng;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

/// Text that programs trip over. None of it has a word that an answer must not have.
const TEXTS: [&str; 20] = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "é",
    "\u{202e}x",
    "\u{10ffff}",
    "NULL",
    "'; DROP TABLE events",
    "%s%n",
    "{}",
    "\\",
    "\"",
    "$1",
    "-1",
    "../../etc",
    "\u{feff}",
    "0190b6d4-5b7e-7c3a-9f00-0123456789ab",
    "ZZZZZZZZ-5b7e-7c3a-9f00-0123456789ab",
];
const LENGTHS: [usize; 10] = [63, 64, 127, 128, 129, 256, 257, 513, 5000, 70_000];
const NUMBERS: [i64; 16] = [
    0,
    1,
    2,
    -1,
    1000,
    1001,
    10_001,
    1_000_000_001,
    i32::MIN as i64,
    i32::MAX as i64,
    i64::MIN,
    i64::MAX,
    // The bounds of a timestamp, and of a duration.
    -62_135_596_801,
    253_402_300_800,
    315_576_000_001,
    999_999_999,
];
const PATHS: [&str; 12] = [
    "*",
    "capacity",
    "labels",
    "limits",
    "limits.max_quantity",
    "start_time",
    "display_name",
    "waitlist",
    "state",
    "",
    "\0",
    "limits.",
];
/// How deep plausible messages go.
const DEPTH: u8 = 5;

/// Where values come from.
pub struct Values {
    pub random: Rng,
    /// Of the events.
    pub epoch: usize,
    /// One that an answer gave.
    pub page_token: String,
}

impl Values {
    /// Whether something is so that is so one time in `n`.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.random.u8(..n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())]
    }

    /// A message of this type, with so many things wrong.
    pub fn message(&mut self, of: &MessageDescriptor) -> DynamicMessage {
        let mut message = self.plausible(of, DEPTH);
        for _ in 0..self.pick(&[0, 0, 0, 1, 1, 2, 6]) {
            self.spoil(&mut message);
        }
        message
    }

    fn plausible(&mut self, of: &MessageDescriptor, depth: u8) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        for field in of.fields().filter(|field| field.containing_oneof().is_none()) {
            let is_needed =
                ["event_id", "user_id", "event", "reservation", "entry", "requests", "event_ids", "quantity"]
                    .contains(&field.name())
                    || ["capacity", "nanos", "seconds", "paths"].contains(&field.name());
            if depth > 0 && !self.one_in(if is_needed { 40 } else { 3 }) && (is_needed || self.random.bool()) {
                let value = self.plausible_value(&field, depth);
                message.set_field(&field, value);
            }
        }
        for oneof in of.oneofs() {
            let fields: Vec<_> = oneof.fields().collect();
            if depth > 0 && !self.one_in(if fields.len() > 1 { 20 } else { 2 }) {
                let by_user = fields.iter().position(|field| field.name() == "user_id").filter(|_| !self.one_in(5));
                let field = &fields[by_user.unwrap_or_else(|| self.random.usize(..fields.len()))];
                let value = self.plausible_value(field, depth);
                message.set_field(field, value);
            }
        }
        message
    }

    fn plausible_value(&mut self, field: &FieldDescriptor, depth: u8) -> Value {
        if field.is_map() {
            let count = self.pick(&[0, 1, 2]);
            return Value::Map(
                (0..count).map(|n| (MapKey::String(format!("k{n}")), Value::String("v".into()))).collect(),
            );
        }
        let count = if field.is_list() { self.pick(&[1, 1, 2, 3]) } else { 1 };
        let mut values: Vec<_> = (0..count).map(|_| self.plausible_one(field, depth)).collect();
        if field.is_list() { Value::List(values) } else { values.remove(0) }
    }

    fn plausible_one(&mut self, field: &FieldDescriptor, depth: u8) -> Value {
        let number = |n: i64| match field.kind() {
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(n),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(n as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(n as u64),
            Kind::Float => Value::F32(n as f32),
            Kind::Double => Value::F64(n as f64),
            _ => Value::I32(n as i32),
        };
        match field.kind() {
            Kind::String => Value::String(self.plausible_text(field.name())),
            Kind::Bool => Value::Bool(self.one_in(4)),
            Kind::Bytes => Value::Bytes(vec![7; 3].into()),
            Kind::Enum(of) => {
                let values: Vec<_> = of.values().map(|value| value.number()).collect();
                Value::EnumNumber(self.pick(&values))
            }
            Kind::Message(of) => Value::Message(self.plausible(&of, depth - 1)),
            _ => number(match field.name() {
                "capacity" => self.pick(&[1, 3, 50]),
                "quantity" => self.pick(&[1, 1, 2, 5]),
                "operations" | "concurrency" => self.pick(&[1, 4]),
                "seconds" => self.pick(&[1, 60, 600, 1_900_000_000]),
                "nanos" => self.pick(&[0, 0, 500_000_000]),
                "page_size" => self.pick(&[0, 1, 2, 1000]),
                _ => self.pick(&[0, 1, 2, 7]),
            }),
        }
    }

    fn plausible_text(&mut self, field: &str) -> String {
        match field {
            "event_id" | "event_ids" => format!("event-{}-{}", self.epoch, self.random.u8(..4)),
            "user_id" => format!("user-{}", self.random.u8(..12)),
            "request_id" => {
                if self.random.bool() {
                    String::new()
                } else {
                    format!("request-{}", self.random.u16(..500))
                }
            }
            "reservation_id" | "entry_id" => "0190b6d4-5b7e-7c3a-9f00-0123456789ab".into(),
            "etag" => {
                if self.one_in(6) {
                    format!("e{}", self.random.u8(..30))
                } else {
                    String::new()
                }
            }
            "page_token" => {
                if self.random.bool() {
                    self.page_token.clone()
                } else {
                    String::new()
                }
            }
            "paths" => self.pick(&PATHS).into(),
            "service" => self.pick(&["", "reservd.v1.EventService", "no.such.Service"]).into(),
            "list_services" | "file_containing_symbol" => self.pick(&["", "reservd.v1.Event", "*"]).into(),
            _ => self.pick(&["", "", "some words"]).into(),
        }
    }

    /// Makes one thing wrong, somewhere in it.
    fn spoil(&mut self, message: &mut DynamicMessage) {
        let fields: Vec<_> = message.descriptor().fields().collect();
        let Some(field) = (!fields.is_empty()).then(|| fields[self.random.usize(..fields.len())].clone()) else {
            return;
        };
        if message.has_field(&field) && !self.one_in(3) {
            match message.get_field_mut(&field) {
                Value::Message(inner) => return self.spoil(inner),
                Value::List(items) => {
                    if let Some(Value::Message(inner)) = items.last_mut() {
                        return self.spoil(inner);
                    }
                }
                _ => {}
            }
        }
        if self.one_in(5) {
            return message.clear_field(&field);
        }
        let value = self.hostile_value(&field);
        message.set_field(&field, value);
    }

    fn hostile_value(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map() {
            let count = self.pick(&[1, 32, 33, 2000]);
            let pairs = (0..count)
                .map(|n| (MapKey::String(format!("{}{n}", self.hostile_text())), Value::String(self.hostile_text())));
            return Value::Map(pairs.take(64).collect::<HashMap<_, _>>());
        }
        if field.is_list() {
            let count = self.pick(&[0, 1, 17, 33, 1001]);
            let item = self.hostile_one(field);
            return Value::List(vec![item; count]);
        }
        self.hostile_one(field)
    }

    fn hostile_one(&mut self, field: &FieldDescriptor) -> Value {
        let number = self.pick(&NUMBERS);
        match field.kind() {
            Kind::String => Value::String(self.hostile_text()),
            Kind::Bool => Value::Bool(self.random.bool()),
            Kind::Bytes => Value::Bytes(vec![0; self.pick(&LENGTHS)].into()),
            Kind::Enum(_) => Value::EnumNumber(number as i32),
            Kind::Message(of) => {
                let mut message = DynamicMessage::new(of);
                self.spoil(&mut message);
                Value::Message(message)
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(number as u64),
            Kind::Float => Value::F32(f32::NAN),
            Kind::Double => Value::F64(f64::INFINITY),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
        }
    }

    pub fn hostile_text(&mut self) -> String {
        match self.random.u8(..10) {
            0 => "x".repeat(self.pick(&LENGTHS)),
            1 => "ö".repeat(self.pick(&LENGTHS)),
            2 => (0..self.random.usize(..40)).map(|_| self.random.char(..)).collect(),
            3 => {
                // A token of ours that is not quite one.
                let mut token = self.page_token.clone();
                let place = self.random.usize(..=token.len());
                token.insert(place, self.random.alphanumeric());
                token
            }
            _ => self.pick(&TEXTS).into(),
        }
    }

    /// The bytes of a message, or some that are nearly those.
    pub fn bytes(&mut self, message: &DynamicMessage) -> Vec<u8> {
        let mut bytes = message.encode_to_vec();
        if !self.one_in(5) {
            return bytes;
        }
        match self.random.u8(..9) {
            0 => bytes.truncate(self.random.usize(..=bytes.len())),
            1 => {
                for _ in 0..self.pick(&[1, 1, 2, 8]) {
                    if let Some(byte) = self.random.choice(&mut bytes) {
                        *byte ^= 1 << fastrand::Rng::with_seed(u64::from(*byte)).u8(..8);
                    }
                }
            }
            // An unknown field, which is none of our business.
            2 => bytes.extend([0xc2, 0x3e, 3, b'a', b'b', b'c']),
            // Everything twice: the later wins, lists grow.
            3 => bytes.extend(bytes.clone()),
            4 => bytes = (0..self.random.usize(..200)).map(|_| self.random.u8(..)).collect(),
            // Groups in groups, and messages in messages, to exhaust a stack.
            5 => bytes.extend([0x0b; 5000]),
            6 => bytes.extend((0..300_u16).rev().flat_map(|n| [0x0a, 0x80 | (n & 0x7f) as u8, (n >> 7) as u8])),
            // A number of eleven bytes, a length beyond the end, a field with the number zero.
            7 => bytes.extend([0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            _ => bytes.extend(self.pick(&[
                &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x07][..],
                &[0x00, 0x00],
                &[0x0a, 2, 0xff, 0xfe],
            ])),
        }
        bytes
    }
}
