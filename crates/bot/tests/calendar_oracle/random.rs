//! Random expressions, written as people and programs write them. The numbers come from a seed.

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In from..=to.
    pub(crate) fn within(&mut self, from: i64, to: i64) -> i64 {
        let width = u64::try_from(to - from + 1).unwrap();
        from + i64::try_from(self.next() % width).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: i64) -> bool {
        self.within(1, n) == 1
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[usize::try_from(self.within(0, from.len() as i64 - 1)).unwrap()]
    }

    /// One item of a list: a number, a range, a range with a step.
    fn item(&mut self, least: i64, most: i64) -> String {
        let from = self.within(least, most);
        match self.within(0, 5) {
            0 => format!("{from}-{}", self.within(from, most)),
            1 => format!("{from}-{}/{}", self.within(from, most), self.within(1, 7)),
            _ => from.to_string(),
        }
    }

    fn list(&mut self, least: i64, most: i64) -> String {
        let items = if self.one_in(3) { self.within(2, 3) } else { 1 };
        let items: Vec<String> = (0..items).map(|_| self.item(least, most)).collect();
        items.join(",")
    }

    /// `*`, `*/step` or a list.
    fn field(&mut self, least: i64, most: i64, star: i64, step: i64) -> String {
        if self.one_in(star) {
            "*".into()
        } else if self.one_in(step) {
            format!("*/{}", self.within(1, most + 3))
        } else {
            self.list(least, most)
        }
    }

    fn day_of_month(&mut self) -> String {
        match self.within(0, 11) {
            0 => "L".into(),
            1 => "LW".into(),
            2 => format!("{}W", self.within(1, 31)),
            3 => format!("{},L", self.list(1, 31)),
            4..=7 => self.field(1, 31, 3, 2),
            _ => "*".into(),
        }
    }

    fn month(&mut self) -> String {
        match self.within(0, 7) {
            0 => {
                self.pick(&["JAN", "feb", "Mar-OCT", "MAR,OCT", "APR-SEP/2", "11", "1-12/5"]).into()
            }
            1 => self.field(1, 12, 2, 2),
            _ => "*".into(),
        }
    }

    fn day_of_week(&mut self) -> String {
        match self.within(0, 11) {
            0 => self.pick(&["MON-FRI", "SAT-SUN", "sun", "SUN-TUE", "Fri", "MON,WED,7"]).into(),
            1 => format!("{}#{}", self.within(0, 7), self.within(1, 5)),
            2 => format!("{}L", self.pick(&["0", "1", "5", "7", "FRI", "SUN"])),
            3..=5 => self.field(0, 7, 4, 4),
            _ => "*".into(),
        }
    }

    /// `hour` is one in which something odd happens, for some of them.
    pub(crate) fn expression(&mut self, hour: i64) -> String {
        let minute = match self.one_in(4) {
            true => self.pick(&["0", "30", "15", "0,30", "59"]).into(),
            false => self.field(0, 59, 10, 3),
        };
        let hour = match self.one_in(2) {
            true => format!("{hour}"),
            false => self.field(0, 23, 6, 4),
        };
        let days = format!("{} {} {}", self.day_of_month(), self.month(), self.day_of_week());
        match self.one_in(4) {
            true => format!("{} {minute} {hour} {days}", self.field(0, 59, 6, 4)),
            false => format!("{minute} {hour} {days}"),
        }
    }
}
