//! Building circuits: gates are added one by one; [`Builder::finish`] drops what no output needs and sorts the rest into layers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::{Circuit, Layer, PAD_BITS, Product, Scaling};

/// A bit of a circuit: an input, a constant or the result of a gate. Only of use to the builder that made it.
///
/// The lowest bit tells that the wire is inverted: NOT costs nothing. The others are the wire's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bit(u32);

impl Bit {
    /// Wire 0 is always false.
    pub(super) const FALSE: Bit = Bit(0);

    fn of(wire: usize) -> Bit {
        // Four thousand million gates do not fit in memory.
        Bit(u32::try_from(wire * 2).unwrap_or(u32::MAX))
    }

    pub(super) fn wire(self) -> usize {
        (self.0 / 2) as usize
    }

    pub(super) fn inverted(self) -> bool {
        self.0 % 2 == 1
    }

    fn plain(self) -> Bit {
        Bit(self.0 & !1)
    }

    fn inverted_if(self, condition: bool) -> Bit {
        Bit(self.0 ^ u32::from(condition))
    }

    fn constant(self) -> Option<bool> {
        (self.wire() == 0).then(|| self.inverted())
    }
}

/// A gate's operands are wires with smaller numbers than its own.
#[derive(Clone, Copy)]
enum Gate {
    /// Nothing to compute: the constant, or an input.
    Given,
    Xor(usize, usize),
    And(usize, usize),
}

/// Builds a [`Circuit`]. Numbers are slices of bits, the lowest first; where two numbers differ in width, zeros are put on top of the shorter one.
///
/// In the descriptions log is the logarithm to base 2, rounded up, and the depth is what an operation adds to that of its latest operand.
pub struct Builder {
    gates: Vec<Gate>,
    /// By wire: products on the way to it.
    levels: Vec<u32>,
    /// Equal gates are made once.
    known: HashMap<(bool, usize, usize), usize>,
    inputs: Vec<usize>,
    outputs: Vec<Bit>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("gates", &self.gates.len())
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// A circuit without gates.
    pub fn new() -> Builder {
        Builder {
            gates: vec![Gate::Given],
            levels: vec![0],
            known: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// The next input bit.
    pub fn input(&mut self) -> Bit {
        self.inputs.push(self.gates.len());
        self.push(Gate::Given, 0)
    }

    /// A number of `width` input bits.
    pub fn inputs(&mut self, width: usize) -> Vec<Bit> {
        (0..width).map(|_| self.input()).collect()
    }

    /// A bit that is known.
    pub fn constant(&mut self, value: bool) -> Bit {
        Bit::FALSE.inverted_if(value)
    }

    /// Exclusive or: free.
    pub fn xor(&mut self, a: Bit, b: Bit) -> Bit {
        let inverted = a.inverted() != b.inverted();
        let (low, high) = (a.wire().min(b.wire()), a.wire().max(b.wire()));
        if low == high {
            return Bit::FALSE.inverted_if(inverted);
        }
        if low == 0 {
            return Bit::of(high).inverted_if(inverted);
        }
        let level = self.levels[low].max(self.levels[high]);
        self.gate(Gate::Xor(low, high), level).inverted_if(inverted)
    }

    /// Negation: free.
    pub fn not(&mut self, a: Bit) -> Bit {
        a.inverted_if(true)
    }

    /// And: depth 1.
    pub fn and(&mut self, a: Bit, b: Bit) -> Bit {
        match (a.constant(), b.constant()) {
            (Some(false), _) | (_, Some(false)) => return Bit::FALSE,
            (Some(true), _) => return b,
            (_, Some(true)) => return a,
            (None, None) if a.wire() == b.wire() => return if a == b { a } else { Bit::FALSE },
            (None, None) => {}
        }
        let (low, high) = (a.wire().min(b.wire()), a.wire().max(b.wire()));
        let level = self.levels[low].max(self.levels[high]) + 1;
        let mut product = self.gate(Gate::And(low, high), level);
        // (x⊕1)·y = x·y ⊕ y: only plain wires are multiplied, so that all products of two wires are the same one.
        if a.inverted() {
            product = self.xor(product, b.plain());
        }
        if b.inverted() {
            product = self.xor(product, a.plain());
        }
        product.inverted_if(a.inverted() && b.inverted())
    }

    /// Or: depth 1.
    pub fn or(&mut self, a: Bit, b: Bit) -> Bit {
        let (a, b) = (self.not(a), self.not(b));
        let neither = self.and(a, b);
        self.not(neither)
    }

    /// `a` and each of `bs`: depth 1, and one oblivious transfer for up to 128 of them.
    ///
    /// (Products that share an operand share the transfer however they are written; this says it.)
    pub fn scale(&mut self, a: Bit, bs: &[Bit]) -> Vec<Bit> {
        bs.iter().map(|b| self.and(a, *b)).collect()
    }

    /// `yes` if `s`, else `no`: depth 1, one oblivious transfer for up to 128 bits.
    pub fn mux(&mut self, s: Bit, yes: &[Bit], no: &[Bit]) -> Vec<Bit> {
        let pairs = zero_extended(yes, no);
        let differences: Vec<Bit> = pairs.iter().map(|(yes, no)| self.xor(*yes, *no)).collect();
        let chosen = self.scale(s, &differences);
        pairs
            .iter()
            .zip(chosen)
            .map(|((_, no), change)| self.xor(*no, change))
            .collect()
    }

    /// Whether all of `bits` are true (so they are if there are none): depth log(bits).
    pub fn all(&mut self, bits: &[Bit]) -> Bit {
        // The earliest two first: the depth stays least if the bits come from different depths.
        let mut waiting: BinaryHeap<Reverse<(u32, u32)>> =
            bits.iter().map(|bit| Reverse((self.level(*bit), bit.0))).collect();
        while let Some(Reverse((_, first))) = waiting.pop() {
            let Some(Reverse((_, second))) = waiting.pop() else {
                return Bit(first);
            };
            let both = self.and(Bit(first), Bit(second));
            waiting.push(Reverse((self.level(both), both.0)));
        }
        self.constant(true)
    }

    /// Whether any of `bits` is true: depth log(bits).
    pub fn any(&mut self, bits: &[Bit]) -> Bit {
        let inverted: Vec<Bit> = bits.iter().map(|bit| self.not(*bit)).collect();
        let none = self.all(&inverted);
        self.not(none)
    }

    /// Makes `bit` the next output.
    pub fn output(&mut self, bit: Bit) {
        self.outputs.push(bit);
    }

    /// Makes each of `bits` an output, in order.
    pub fn outputs(&mut self, bits: &[Bit]) {
        self.outputs.extend_from_slice(bits);
    }

    /// Products on the way to `bit`.
    pub(super) fn level(&self, bit: Bit) -> u32 {
        self.levels[bit.wire()]
    }

    fn gate(&mut self, gate: Gate, level: u32) -> Bit {
        let key = match gate {
            Gate::Given => return self.push(gate, level),
            Gate::Xor(a, b) => (false, a, b),
            Gate::And(a, b) => (true, a, b),
        };
        if let Some(wire) = self.known.get(&key) {
            return Bit::of(*wire);
        }
        self.known.insert(key, self.gates.len());
        self.push(gate, level)
    }

    fn push(&mut self, gate: Gate, level: u32) -> Bit {
        self.gates.push(gate);
        self.levels.push(level);
        Bit::of(self.gates.len() - 1)
    }

    /// The circuit: without gates that no output needs, each product in the earliest layer that it can be in.
    pub fn finish(self) -> Circuit {
        let live = self.live();
        let outputs = self.outputs.iter().map(|bit| bit.wire());
        let depth = outputs.map(|wire| self.levels[wire]).max().unwrap_or(0) as usize;
        let mut xors = vec![Vec::new(); depth + 1];
        let mut ands = vec![Vec::new(); depth + 1];
        for (wire, gate) in self.gates.iter().enumerate().filter(|(wire, _)| live[*wire]) {
            let level = self.levels[wire] as usize;
            match gate {
                Gate::Given => {}
                Gate::Xor(a, b) => xors[level].push((wire, *a, *b)),
                Gate::And(a, b) => ands[level - 1].push((wire, *a, *b)),
            }
        }
        let mut places = Places::new(self.gates.len(), &self.inputs);
        let mut layers = Vec::with_capacity(depth);
        let mut last = Vec::new();
        for (level, (xors, ands)) in xors.iter().zip(&ands).enumerate() {
            let xors = xors.iter().map(|gate| places.xor(*gate)).collect();
            if level == depth {
                last = xors;
            } else {
                layers.push(places.layer(xors, ands));
            }
        }
        let outputs = self
            .outputs
            .iter()
            .map(|bit| Bit(places.of[bit.wire()] * 2).inverted_if(bit.inverted()))
            .collect();
        let products: Vec<Product> = layers.iter().flat_map(|layer| layer.products.iter().copied()).collect();
        Circuit {
            inputs: self.inputs.len(),
            masks: places.masks as usize,
            scalings: scalings(&products, places.masks as usize),
            products: products.len(),
            layers,
            last,
            outputs,
        }
    }

    /// By wire: whether an output depends on it.
    fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.gates.len()];
        for bit in &self.outputs {
            live[bit.wire()] = true;
        }
        for (wire, gate) in self.gates.iter().enumerate().rev() {
            if let (true, Gate::Xor(a, b) | Gate::And(a, b)) = (live[wire], gate) {
                live[*a] = true;
                live[*b] = true;
            }
        }
        live
    }
}

/// Where the wires of a builder come to lie in the finished circuit: in the order in which they are computed.
struct Places {
    of: Vec<u32>,
    next: u32,
    /// By wire of the builder: its mask, if it is an operand of a product.
    mask: Vec<Option<u32>>,
    masks: u32,
}

impl Places {
    fn new(wires: usize, inputs: &[usize]) -> Places {
        let mut places = Places {
            of: vec![0; wires],
            next: 1,
            mask: vec![None; wires],
            masks: 0,
        };
        for input in inputs {
            places.put(*input);
        }
        places
    }

    fn put(&mut self, wire: usize) {
        self.of[wire] = self.next;
        self.next += 1;
    }

    fn xor(&mut self, (wire, a, b): (usize, usize, usize)) -> (u32, u32) {
        self.put(wire);
        (self.of[a], self.of[b])
    }

    fn layer(&mut self, xors: Vec<(u32, u32)>, ands: &[(usize, usize, usize)]) -> Layer {
        let first = self.masks;
        let mut opened = Vec::new();
        let mut products = Vec::with_capacity(ands.len());
        for (wire, a, b) in ands {
            let masks = [*a, *b].map(|operand| {
                *self.mask[operand].get_or_insert_with(|| {
                    opened.push(self.of[operand]);
                    self.masks += 1;
                    self.masks - 1
                })
            });
            products.push(masks);
            self.put(*wire);
        }
        Layer {
            xors,
            first_mask: first,
            opened,
            products,
        }
    }
}

/// Every product is given to one of its two operands, so that few operands are used: a vertex cover of the graph whose edges are the products, found
/// greedily. All parties find the same one.
fn scalings(products: &[Product], masks: usize) -> Vec<Scaling> {
    let mut of_mask = vec![Vec::new(); masks];
    for (index, product) in products.iter().enumerate() {
        for mask in product {
            of_mask[*mask as usize].push(index);
        }
    }
    let mut open: Vec<usize> = of_mask.iter().map(Vec::len).collect();
    let mut covered = vec![false; products.len()];
    let by_count = |mask: usize, open: &[usize]| (open[mask], Reverse(mask));
    let mut queue: BinaryHeap<_> = (0..masks).map(|mask| by_count(mask, &open)).collect();
    let mut scalings = Vec::new();
    while let Some((count, Reverse(left))) = queue.pop() {
        if count != open[left] {
            // Others have covered some of its products since it was queued.
            queue.push(by_count(left, &open));
        } else if count > 0 {
            let mut rights = Vec::new();
            for index in of_mask[left].iter().filter(|index| !covered[**index]) {
                let [a, b] = products[*index];
                let right = if a as usize == left { b } else { a };
                rights.push((*index, right as usize));
            }
            for (index, right) in &rights {
                covered[*index] = true;
                open[*right] -= 1;
            }
            open[left] = 0;
            let parts = rights.chunks(PAD_BITS);
            scalings.extend(parts.map(|part| Scaling {
                left,
                products: part.to_vec(),
            }));
        }
    }
    scalings
}

/// The bits of both numbers, place by place.
pub(super) fn zero_extended(x: &[Bit], y: &[Bit]) -> Vec<(Bit, Bit)> {
    let at = |number: &[Bit], place: usize| number.get(place).copied().unwrap_or(Bit::FALSE);
    (0..x.len().max(y.len()))
        .map(|place| (at(x, place), at(y, place)))
        .collect()
}
