"""What each layer of a Keras model costs, and how much of the image it sees.

`ledger` reads one model, layer by layer; `compare` puts several into one table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf, prod

import keras
from keras import layers

from resnetlib.tables import html_table, text_table

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

# Each output position uses every kernel weight of these layers exactly once.
KERNEL_LAYERS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)

# These have weights, but scale or shift only; the literature counts no multiply-accumulates here.
SCALE = {
    *("BatchNormalization", "GroupNormalization", "LayerNormalization", "Normalization"),
    *("PReLU", "LayerScale"),  # LayerScale: keras.applications' ConvNeXt
}

GLOBAL_LAYERS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)

# An output position of these sees no more of the image than the same position of their inputs.
POINTWISE = {
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Identity", "Rescaling"),
    *("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise"),
    *("BatchNormalization", "Normalization", "Dense", "ZeroPadding2D", "Cropping2D"),
    *("LayerScale", "StochasticDepth", "CustomScaleLayer"),  # of keras.applications
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"),
    # Operations of keras.ops that stand in a functional model under their own names.
    *("Divide", "TrueDivide", "Negative", "Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Gelu"),
}

HTML_HEADER = (
    *("layer", "kind", "output shape", "parameters", "trainable"),
    *("multiply-accumulates", "activation bytes", "receptive field", "stride"),
)

COMPARISON_HEADER = (
    *("model", "depth", "parameters", "trainable", "multiply-accumulates"),
    *("activation bytes", "peak in inference", "peak in training", "receptive field"),
)


@dataclass(frozen=True)
class Row:
    """One call of one layer.

    output_shape leaves the batch out. params counts scalars, trainable those that training moves;
    a weight that two layers share counts in the first. macs is None if the ledger has no rule for
    the layer. activation_bytes is the size of the output for the ledger's batch and dtype.
    receptive_field and stride are in input pixels, an integer or a (height, width) pair;
    receptive_field is "all" where a value sees the whole input (after flattening, dense layers and
    global pooling) and None if the ledger has no rule; stride is None where no image is left.
    inputs names the rows that this row reads.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    trainable: int
    macs: int | None
    activation_bytes: int
    receptive_field: int | tuple[int, int] | str | None
    stride: int | tuple[int, int] | None
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Ledger:
    """The rows of one model, in the order in which they run, and their totals; made by `ledger`.

    outputs names the rows that the model returns.
    """

    model: str
    batch_size: int
    dtype: str
    rows: list[Row] = field(repr=False)
    outputs: tuple[str, ...] = field(repr=False)

    @property
    def params(self) -> int:
        """All parameters, equal to Keras' `count_params()`."""
        return sum(row.params for row in self.rows)

    @property
    def trainable(self) -> int:
        """The parameters that training moves."""
        return sum(row.trainable for row in self.rows)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one image, or None if those of a layer are not known."""
        counts = [row.macs for row in self.rows]
        return None if None in counts else sum(counts)

    @property
    def activation_bytes(self) -> int:
        """The sizes of all outputs together, in bytes, for the whole batch."""
        return sum(row.activation_bytes for row in self.rows)

    @property
    def peak_inference_bytes(self) -> int:
        """The most bytes of activations that are held at once in a forward pass.

        The rows run in order, and an output is given back after the last row that reads it; the
        model's outputs stay. Work space within a layer and parameters come on top, and nothing is
        computed in place.

        Measured as a process' growth under TensorFlow on a CPU, in graphs (`predict`): 1.0 to 1.2
        times this. The tests allow a factor of 2. A model called as a function, `model(x)`,
        keeps all outputs until it returns: `activation_bytes`.
        """
        return max(self._held(self.rows), default=0)

    @property
    def peak_training_bytes(self) -> int:
        """The most bytes of activations that are held at once in a training step.

        The forward pass keeps every output for the backward pass, where a row gives its output
        back as soon as it has run backwards. On top come the gradients: that of an output is held
        from the last row that reads it back to the row that made it. Inputs need no gradient.

        Parameters are not in it. Training with Adam takes four numbers for each trainable one:
        its value, its gradient and two moments.

        Measured like `peak_inference_bytes`, with a GradientTape: 0.6 to 1.8 times this. Less in
        residual networks, where TensorFlow drops what no gradient reads, such as a sum before its
        ReLU; more with max pooling, whose gradient needs work space. The tests allow a factor of 2.
        """
        computed = [row for row in self.rows if row.kind != "InputLayer"]
        entered = self.activation_bytes - sum(row.activation_bytes for row in computed)
        kept = accumulate(row.activation_bytes for row in computed)
        steps = zip(kept, self._held(computed), strict=True)
        return entered + max((k + gradients for k, gradients in steps), default=0)

    def _held(self, rows: list[Row]) -> list[int]:
        """Return, for each row in turn, the bytes of the outputs so far that are read later."""
        last = {row.name: step for step, row in enumerate(rows)}
        for step, row in enumerate(rows):
            last |= {name: step for name in row.inputs if name in last}
        last |= {name: len(rows) - 1 for name in self.outputs if name in last}
        change = [row.activation_bytes for row in rows] + [0]
        for row in rows:
            change[last[row.name] + 1] -= row.activation_bytes
        return list(accumulate(change))[:-1]

    @property
    def depth(self) -> int:
        """The most layers with multiply-accumulates on one way through the model.

        This is the number in a network's name, such as ResNet-50: shortcuts run beside the longest
        way. The dense layers of squeeze-and-excitation do lie on it, although its names leave them
        out.
        """
        depths = {}
        for row in self.rows:
            before = max((depths[name] for name in row.inputs), default=0)
            depths[row.name] = before + (row.macs != 0)
        return max(depths.values(), default=0)

    @property
    def receptive_field(self) -> int | tuple[int, int] | str | None:
        """The receptive field of the last feature map, or None if it is not known."""
        maps = [row for row in self.rows if row.stride or row.receptive_field is None]
        return maps[-1].receptive_field if maps else None

    def __getitem__(self, name: str) -> Row:
        """Return the row of the layer called `name`."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no layer {name!r}; the layers are {', '.join(r.name for r in self.rows)}")

    def __str__(self) -> str:
        unit, divisor = _unit(self.activation_bytes)
        table = [("layer", "kind", "output", "params", "MACs", unit, "field", "stride")]
        for row in self.rows:
            sizes = (row.params, row.macs, round(row.activation_bytes / divisor))
            extents = (_extent(row.receptive_field, "?"), _extent(row.stride, "-"))
            shape = _shape(row.output_shape)
            table.append((row.name, row.kind, shape, *map(_count, sizes), *extents))
        sizes = (self.params, self.macs, round(self.activation_bytes / divisor))
        table.append(("total", "", "", *map(_count, sizes), "", ""))
        return "\n".join(
            (
                text_table(table, align="lllrrrrr", rules=(1, len(table) - 1), cut=(1, 0)),
                f"{self.trainable:,} of {self.params:,} parameters are trainable.",
                f"{unit}: the outputs of a batch of {self.batch_size} in {self.dtype}.",
                self._peaks(*_unit(self.peak_training_bytes)),
                "field: side of the square of input pixels that a value sees (all: everything).",
            )
        )

    def _repr_html_(self) -> str:
        table = [HTML_HEADER]
        for row in self.rows:
            sizes = (row.params, row.trainable, row.macs, row.activation_bytes)
            extents = (_extent(row.receptive_field, "?"), _extent(row.stride, "–"))
            shape = _shape(row.output_shape)
            table.append((row.name, row.kind, shape, *map(_count, sizes), *extents))
        sizes = (self.params, self.trainable, self.macs, self.activation_bytes)
        table.append(("total", "", "", *map(_count, sizes), "", ""))
        caption = f"{self.model}: batch of {self.batch_size}, {self.dtype}"
        page = html_table(caption, table, align="lllrrrrrr", footer=True)
        return f"{page}\n<p>{self._peaks('bytes', 1)}</p>"

    def _peaks(self, unit: str, divisor: int) -> str:
        inference, training = (
            _count(round(size / divisor))
            for size in (self.peak_inference_bytes, self.peak_training_bytes)
        )
        return (
            f"Held at once: {inference} {unit} in inference, {training} in training, "
            "without parameters."
        )


@dataclass(frozen=True)
class Comparison:
    """Several ledgers, to be shown as one table, a line a model; made by `compare`."""

    ledgers: list[Ledger]

    def __str__(self) -> str:
        unit, divisor = _unit(max(book.peak_training_bytes for book in self.ledgers))
        millions = max(book.macs or 0 for book in self.ledgers) >= 10**9
        columns = ("outputs", "inference", "training")
        table = [("model", "depth", "params", "trainable", "MACs", *columns, "field")]
        for book in self.ledgers:
            macs = f"{book.macs / 1e6:,.1f} M" if millions and book.macs else _count(book.macs)
            counts = map(_count, (book.depth, book.params, book.trainable))
            sizes = (_count(round(size / divisor)) for size in _sizes(book))
            table.append((book.model, *counts, macs, *sizes, _extent(book.receptive_field, "?")))
        batch = f"a batch of {self.ledgers[0].batch_size} in {self.ledgers[0].dtype}"
        return "\n".join(
            (
                text_table(table, align="lrrrrrrrr", cut=(0,)),
                f"outputs: all layers' together, in {unit}, for {batch}.",
                f"inference, training: the most {unit} of them (and gradients) held at once.",
                "depth: the most layers with multiply-accumulates on one way through the model.",
                "field: side of the square of input pixels that the last feature map's values see.",
            )
        )

    def _repr_html_(self) -> str:
        table = [COMPARISON_HEADER]
        for book in self.ledgers:
            counts = (book.depth, book.params, book.trainable, book.macs, *_sizes(book))
            extent = _extent(book.receptive_field, "?")
            table.append((book.model, *map(_count, counts), extent))
        first = self.ledgers[0]
        caption = f"{len(self.ledgers)} models: batch of {first.batch_size}, {first.dtype}; bytes"
        return html_table(caption, table, align="lrrrrrrrr")


def ledger(model: keras.Model, batch_size: int = 1, dtype: str = "float32") -> Ledger:
    """Return what every layer of a built Sequential or Functional model costs.

    model: channels-last, with a fixed image size; models inside the model are opened, and their
        layers are called "outer/inner".
    batch_size: images in a batch, at least 1; it changes the bytes only.
    dtype: of the activations: "float64", "float32", "bfloat16" or "float16".
    Result: a Ledger. `print` shows a table, a notebook a richer one.

    Multiply-accumulates are counted for one image in Conv2D, DepthwiseConv2D, SeparableConv2D and
    Dense; a layer without weights, and normalisation, count 0; any other layer with weights has
    None, shown as "?", and so has the total. Biases and activations are not counted.

    The receptive field is the theoretical one: the side of the square of input pixels that can
    change one output value, as if the image had no border; where branches meet it is the largest.
    A layer that the ledger does not know has None, shown as "?".

    A layer of your own is read when it says two things, each only where it applies:
    - the attributes `strides` and `kernel_size` or `pool_size` (an integer or a (height, width)
      pair; `dilation_rate` if it has one): a window that slides. A layer that works on each pixel
      alone has `kernel_size = 1` and `strides = 1`, which may be attributes of the class.
    - the method `macs(input_shape, output_shape)` returns its multiply-accumulates for one image,
      an integer; the shapes are tuples without the batch, of its first input and its first
      output. It goes before every rule of the ledger.
    Taught in chapter 2.
    """
    if dtype not in BYTES:
        raise ValueError(f"dtype is one of {', '.join(BYTES)}; received {dtype!r}")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is an integer of at least 1; received {batch_size!r}")
    calls, rows, fields, counted = [], [], [], set()
    returned = _trace(model, calls)
    for call in calls:
        weights = [w for w in _weights(call.op) if id(w) not in counted]
        counted.update(map(id, weights))
        moving = {id(w) for w in getattr(call.op, "trainable_weights", [])}
        fields.append(_field(call, [fields[i] for i in call.inputs], rows))
        size, stride = fields[-1] or (None, None)
        rows.append(
            Row(
                name=call.name,
                kind=type(call.op).__name__,
                output_shape=call.shapes[0],
                params=sum(prod(w.shape) for w in weights),
                trainable=sum(prod(w.shape) for w in weights if id(w) in moving),
                macs=_macs(call, [rows[i].output_shape for i in call.inputs]),
                activation_bytes=batch_size * BYTES[dtype] * sum(map(prod, call.shapes)),
                receptive_field=_plain(size),
                stride=_plain(stride),
                inputs=tuple(rows[i].name for i in call.inputs),
            )
        )
    return Ledger(model.name, batch_size, dtype, rows, tuple(rows[i].name for i in returned))


def compare(
    models: Sequence[keras.Model | Ledger], batch_size: int = 1, dtype: str = "float32"
) -> Comparison:
    """Return one table of several models: depth, parameters, cost, memory, receptive field.

    models: models, for which `ledger` is called with batch_size and dtype, or ledgers, in any mix.
    Result: a Comparison; its `ledgers` hold the numbers.
    Errors: also if two ledgers are for different batch sizes or dtypes.
    Taught in chapter 16.
    """
    if not isinstance(models, Sequence) or isinstance(models, str):
        raise TypeError(f"compare needs a list of models or ledgers; received {_kind(models)}")
    if not models:
        raise ValueError("compare needs at least one model or ledger; received none")
    for model in models:
        if not isinstance(model, keras.Model | Ledger):
            raise TypeError(f"compare needs keras.Models or Ledgers; received {_kind(model)}")
    ledgers = [
        model if isinstance(model, Ledger) else ledger(model, batch_size, dtype) for model in models
    ]
    conditions = {f"a batch of {book.batch_size} in {book.dtype}" for book in ledgers}
    if len(conditions) > 1:
        raise ValueError(
            "compare needs one batch size and dtype for all; received ledgers for "
            + " and ".join(sorted(conditions))
        )
    return Comparison(ledgers)


@dataclass(frozen=True)
class _Call:
    """One call of an operation; inputs are indices into the list of calls."""

    name: str
    op: keras.Operation
    inputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]


def _trace(
    model: keras.Model, calls: list[_Call], prefix: str = "", fed: Sequence[int] = ()
) -> list[int]:
    """Append the model's calls, inputs first; return the indices of those that give its outputs.

    fed holds the calls whose outputs a model inside another one receives.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"ledger needs a keras.Model; received {type(model).__name__}")
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"model {model.name!r} has no graph to read; build it first (start a Sequential with "
            "keras.Input, or call model.build), or write it with the functional API"
        )
    # Keras has no public list of a model's calls: `layer.output` knows the first call only.
    graph = keras.Function(model.inputs, model.outputs)
    order = {id(op): position for position, op in enumerate(graph.operations)}  # as in summary()
    source = dict(zip(map(id, model.inputs), fed, strict=True)) if fed else {}
    for _, nodes in sorted(graph._nodes_by_depth.items(), reverse=True):
        for node in sorted(nodes, key=lambda node: order[id(node.operation)]):
            if fed and node.is_input:
                continue
            op, name = node.operation, prefix + node.operation.name
            if getattr(op, "data_format", None) == "channels_first":
                raise ValueError(
                    f"layer {name!r} is channels_first; the ledger reads channels_last"
                )
            inputs = [source[id(tensor)] for tensor in node.input_tensors]
            if isinstance(op, keras.Model) and getattr(op, "inputs", None):
                made = _trace(op, calls, name + "/", inputs)
            else:
                again = sum(call.op is op for call in calls)
                name = f"{name} (call {again + 1})" if again else name
                calls.append(_Call(name, op, tuple(inputs), _shapes(name, node.outputs)))
                made = [len(calls) - 1] * len(node.outputs)
            source.update(zip(map(id, node.outputs), made, strict=True))
    return [source[id(tensor)] for tensor in model.outputs]


def _shapes(name: str, outputs: Sequence[keras.KerasTensor]) -> tuple[tuple[int, ...], ...]:
    shapes = tuple(tuple(tensor.shape[1:]) for tensor in outputs)
    if any(None in shape for shape in shapes):
        raise ValueError(
            f"layer {name!r} has the output shape {shapes[0]}; "
            "build the model for a fixed image size, such as keras.Input((224, 224, 3))"
        )
    return shapes


def _macs(call: _Call, inputs: list[tuple[int, ...]]) -> int | None:
    """Return what the layer says, or kernel weights times output positions."""
    if hasattr(call.op, "macs"):
        return call.op.macs(inputs[0], call.shapes[0])
    if not isinstance(call.op, KERNEL_LAYERS):
        return None if _weights(call.op) and not SCALE & _kinds(call.op) else 0
    positions = prod(call.shapes[0][:-1])
    return positions * sum(prod(w.shape) for w in _weights(call.op) if len(w.shape) > 1)


def _weights(op: keras.Operation) -> list:
    return getattr(op, "weights", [])


def _field(call: _Call, fields: list, rows: list[Row]) -> tuple | None:
    """Return ((height, width) of the receptive field, (height, width) of the stride).

    The size is infinite where a value sees everything, the stride None where no image is left.
    """
    op, shape = call.op, call.shapes[0]
    everything = ((inf, inf), None)
    if isinstance(op, layers.InputLayer):
        return (1, 1), (1, 1)
    if len(shape) < 2 or isinstance(op, GLOBAL_LAYERS):
        return everything
    known = [f for f in fields if f] or [((1, 1), None)]
    size = tuple(max(sides) for sides in zip(*(f[0] for f in known), strict=True))
    stride = next((f[1] for f in known if f[1]), None)
    if None in fields and inf not in size:
        return None
    window = getattr(op, "kernel_size", None) or getattr(op, "pool_size", None)
    if isinstance(op, layers.Reshape):
        source = rows[call.inputs[0]]
        if source.kind == "InputLayer" or source.output_shape[:2] == shape[:2]:
            return size, stride
    if POINTWISE & _kinds(op):
        return size, stride
    if isinstance(op, layers.LayerNormalization | layers.GroupNormalization):
        axes = [op.axis] if isinstance(op.axis, int) else op.axis
        alone = isinstance(op, layers.LayerNormalization) and {*axes} <= {-1, len(shape)}
        return (size if alone else (inf, inf)), stride
    slides = window and hasattr(op, "strides") and not isinstance(op, layers.Conv2DTranspose)
    if not slides or stride is None or len(shape) != 3:
        return everything if inf in size else None
    window, dilation = _pair(window), _pair(getattr(op, "dilation_rate", 1))
    return (
        tuple(size[i] + (window[i] - 1) * dilation[i] * stride[i] for i in (0, 1)),
        tuple(stride[i] * _pair(op.strides)[i] for i in (0, 1)),
    )


def _kinds(op: keras.Operation) -> set[str]:
    return {kind.__name__ for kind in type(op).__mro__}


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _plain(pair: tuple | None) -> int | tuple | str | None:
    """Return an integer for a square, "all" for an infinite size."""
    if pair is None:
        return None
    if inf in pair:
        return "all"
    return pair[0] if len(set(pair)) == 1 else pair


def _unit(largest: int) -> tuple[str, int]:
    """Return the unit in which this many bytes have at most seven digits, and its size."""
    for unit, size in (("bytes", 1), ("kB", 10**3)):
        if largest < size * 10_000_000:
            return unit, size
    return "MB", 10**6


def _sizes(book: Ledger) -> tuple[int, int, int]:
    return book.activation_bytes, book.peak_inference_bytes, book.peak_training_bytes


def _kind(value: object) -> str:
    return type(value).__name__


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _extent(extent: int | tuple | str | None, none: str) -> str:
    if extent is None:
        return none
    return _shape(extent) if isinstance(extent, tuple) else str(extent)
