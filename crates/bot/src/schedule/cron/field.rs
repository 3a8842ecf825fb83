//! One field of a cron expression: whether a person can have meant it, and the same in numbers. The
//! library behind replaces names wherever they stand (`MON` as a minute) and passes over what follows
//! a `W`; here such a field is a mistake with a reason. What days a field stands for is not decided here.

/// What a field may hold.
pub(super) struct Field {
    pub(super) name: &'static str,
    least: u16,
    most: u16,
    /// The first of them is `least`.
    names: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    DayOfMonth,
    DayOfWeek,
}

const MONTHS: &[&str] =
    &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const fn plain(name: &'static str, least: u16, most: u16) -> Field {
    Field { name, least, most, names: &[], kind: Kind::Plain }
}

/// All six; an expression of five has no seconds.
pub(super) const FIELDS: [Field; 6] = [
    plain("second", 0, 59),
    plain("minute", 0, 59),
    plain("hour", 0, 23),
    Field { kind: Kind::DayOfMonth, ..plain("day of month", 1, 31) },
    Field { names: MONTHS, ..plain("month", 1, 12) },
    Field { names: DAYS, kind: Kind::DayOfWeek, ..plain("day of week", 0, 7) },
];

impl Field {
    /// The field in numbers and capitals, or why it cannot be read.
    pub(super) fn read(&self, text: &str) -> Result<String, String> {
        // `+` before the day of week: both days must match.
        let (plus, list) = match text.strip_prefix('+') {
            Some(rest) if self.kind == Kind::DayOfWeek => ("+", rest),
            _ => ("", text),
        };
        let mut read = String::from(plus);
        for (place, item) in list.split(',').enumerate() {
            if place > 0 {
                read.push(',');
            }
            if item.is_empty() {
                return Err("an entry of the list is empty".into());
            }
            read.push_str(&self.item(&item.to_ascii_uppercase())?);
        }
        Ok(read)
    }

    fn item(&self, item: &str) -> Result<String, String> {
        match self.kind {
            Kind::Plain => self.stepped(item),
            Kind::DayOfMonth => match item.strip_suffix('W') {
                _ if item == "L" => Ok(item.into()),
                Some("L") => Ok(item.into()),
                Some(day) => Ok(format!("{}W", self.value(day)?)),
                None => self.stepped(item),
            },
            Kind::DayOfWeek => match (item.split_once('#'), item.strip_suffix('L')) {
                (Some((days, nth @ ("1" | "2" | "3" | "4" | "5" | "L"))), _) if days != "*" => {
                    Ok(format!("{}#{nth}", self.stepped(days)?))
                }
                (Some(_), _) => {
                    Err("before # stands a day of the week, after it 1 to 5, as in 5#2".into())
                }
                (None, Some("")) => {
                    Err("L stands after a day of the week, as in 5L: the last Friday".into())
                }
                (None, Some(day)) => Ok(format!("{}L", self.value(day)?)),
                (None, None) => self.stepped(item),
            },
        }
    }

    /// A wildcard, a range or a number, with or without a step.
    fn stepped(&self, item: &str) -> Result<String, String> {
        let Some((base, step)) = item.split_once('/') else { return self.base(item) };
        let step = match number(step) {
            Some(0) => return Err("a step of 0 leads nowhere".into()),
            // Longer than the field is as long as the field.
            Some(step) => step.min(u64::from(self.most) + 1),
            None => return Err(format!("after / stands a number, not {:?}", cut(step))),
        };
        let base = match base {
            "" => return Err(format!("before / stands * or a range: write \"*/{step}\"")),
            _ if base != "*" && base != "?" && !base.contains('-') => {
                let from = self.value(base)?;
                let most = if self.kind == Kind::DayOfWeek { from.max(6) } else { self.most };
                return Err(format!(
                    "a step needs * or a range before it: write \"{from}-{most}/{step}\""
                ));
            }
            _ => self.base(base)?,
        };
        Ok(format!("{base}/{step}"))
    }

    fn base(&self, text: &str) -> Result<String, String> {
        if text == "*" || text == "?" && self.kind != Kind::Plain {
            return Ok("*".into());
        }
        let Some((from, to)) = text.split_once('-') else {
            return self.value(text).map(|value| value.to_string());
        };
        let (first, mut last) = (self.value(from)?, self.value(to)?);
        // "FRI-SUN" ends with the Sunday after the Friday.
        if self.kind == Kind::DayOfWeek && to == "SUN" && from != "SUN" {
            last = 7;
        }
        if first > last {
            return Err(format!("the range {} runs backwards; write it as two", cut(text)));
        }
        Ok(format!("{first}-{last}"))
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        let (least, most) = (self.least, self.most);
        if let Some(value) = number(text) {
            let value = u16::try_from(value).ok().filter(|v| (least..=most).contains(v));
            return value.ok_or(format!("{} is not between {least} and {most}", cut(text)));
        }
        let named = self.names.iter().position(|name| *name == text);
        if let Some(place) = named.and_then(|place| u16::try_from(place).ok()) {
            return Ok(least + place);
        }
        let or_name = match self.names {
            [] => String::new(),
            [first, ..] => format!(", and no name such as {first}"),
        };
        match text {
            "" => Err("a number is missing".into()),
            _ => Err(format!("{:?} is no number{or_name}", cut(text))),
        }
    }
}

/// Digits and nothing else; as good as endless where there are too many.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn cut(text: &str) -> String {
    text.chars().take(30).collect()
}
