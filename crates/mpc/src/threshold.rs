//! What has to be compared before anything opens.

/// The numbers that the rules of all parties want, as far as they do not follow from what each party has checked for itself. The same at every party; 0 for
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Samples of all parties together, for each thing that opens on its own (each column).
    pub samples_total: u64,
    /// Samples of all parties but one, whichever that is.
    pub samples_others: u64,
    /// Count of a cell of a table that is not empty.
    pub cell: u64,
    /// Values on either side of a single value that opens (a median, a quantile).
    pub beyond: u64,
}

impl Thresholds {
    /// Nowhere looser than either.
    #[must_use]
    pub fn strictest(self, other: Thresholds) -> Thresholds {
        Thresholds {
            samples_total: self.samples_total.max(other.samples_total),
            samples_others: self.samples_others.max(other.samples_others),
            cell: self.cell.max(other.cell),
            beyond: self.beyond.max(other.beyond),
        }
    }
}
