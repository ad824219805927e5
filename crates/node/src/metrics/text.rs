//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write;

use super::histogram::{BUCKETS, Histogram};

#[derive(Default)]
pub(super) struct Text(String);

// Writing to a String cannot fail.
impl Text {
    /// All lines of a metric come after its beginning, and none of another between them.
    pub(super) fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, labels: &[(&str, &str)], number: u64) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {number}");
    }

    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, number: u64) {
        self.begin(name, kind, help);
        self.line(name, &[], number);
    }

    /// For a route, or for none.
    pub(super) fn histogram(&mut self, name: &str, route: &str, histogram: &Histogram) {
        let of = |le: Option<&'static str>| {
            let mut labels = Vec::new();
            if !route.is_empty() {
                labels.push(("route", route));
            }
            labels.extend(le.map(|le| ("le", le)));
            labels
        };
        let (counts, total, seconds) = histogram.cumulative();
        let bucket = format!("{name}_bucket");
        for ((end, _), count) in BUCKETS.iter().zip(counts) {
            self.line(&bucket, &of(Some(end)), count);
        }
        self.line(&bucket, &of(Some("+Inf")), total);
        let route = match route {
            "" => String::new(),
            route => format!("{{route=\"{}\"}}", escaped(route)),
        };
        let _ = writeln!(self.0, "{name}_sum{route} {seconds}\n{name}_count{route} {total}");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        let mut text = Text::default();
        text.begin("a_total", "counter", "Something.");
        text.line("a_total", &[("x", "1"), ("y", "\"\\\n")], 7);
        let expected = "# HELP a_total Something.\n# TYPE a_total counter\na_total{x=\"1\",y=\"\\\"\\\\\\n\"} 7\n";
        assert_eq!(text.finish(), expected);
    }
}
