"""What each layer of a Keras model costs, and how much of the image it sees."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, prod

import keras
from keras import layers

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

# Each output position uses every kernel weight of these layers exactly once.
KERNEL_LAYERS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)

# These have weights, but scale or shift only; the literature counts no multiply-accumulates here.
SCALE_LAYERS = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
)

GLOBAL_LAYERS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)

# An output position of these sees no more of the image than the same position of their inputs.
POINTWISE = {
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Identity", "Rescaling"),
    *("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise"),
    *("BatchNormalization", "Normalization", "Dense", "ZeroPadding2D", "Cropping2D"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"),
    # Operations of keras.ops that stand in a functional model under their own names.
    *("Divide", "TrueDivide", "Negative", "Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Gelu"),
}

HTML_HEADER = (
    *("layer", "kind", "output shape", "parameters", "trainable"),
    *("multiply-accumulates", "activation bytes", "receptive field", "stride"),
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
    """The rows of one model and their totals; made by `ledger`."""

    model: str
    batch_size: int
    dtype: str
    rows: list[Row] = field(repr=False)

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

    def __getitem__(self, name: str) -> Row:
        """Return the row of the layer called `name`."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no layer {name!r}; the layers are {', '.join(r.name for r in self.rows)}")

    def __str__(self) -> str:
        unit, divisor = ("bytes", 1) if self.activation_bytes < 10_000_000 else ("kB", 1000)
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
        return html_table(caption, table, align="lllrrrrrr", footer=True)


def ledger(model: keras.Model, batch_size: int = 1, dtype: str = "float32") -> Ledger:
    """Return what every layer of a built Sequential or Functional model costs.

    model: channels-last, with a fixed image size; models inside the model are opened, and their
        layers are called "outer/inner".
    batch_size: images in a batch, at least 1; it changes `activation_bytes` only.
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
    _trace(model, calls)
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
    return Ledger(model.name, batch_size, dtype, rows)


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
        return None if _weights(call.op) and not isinstance(call.op, SCALE_LAYERS) else 0
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
    if POINTWISE & {kind.__name__ for kind in type(op).__mro__}:
        return size, stride
    slides = window and hasattr(op, "strides") and not isinstance(op, layers.Conv2DTranspose)
    if not slides or stride is None or len(shape) != 3:
        return everything if inf in size else None
    window, dilation = _pair(window), _pair(getattr(op, "dilation_rate", 1))
    return (
        tuple(size[i] + (window[i] - 1) * dilation[i] * stride[i] for i in (0, 1)),
        tuple(stride[i] * _pair(op.strides)[i] for i in (0, 1)),
    )


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _plain(pair: tuple | None) -> int | tuple | str | None:
    """Return an integer for a square, "all" for an infinite size."""
    if pair is None:
        return None
    if inf in pair:
        return "all"
    return pair[0] if len(set(pair)) == 1 else pair


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _extent(extent: int | tuple | str | None, none: str) -> str:
    if extent is None:
        return none
    return _shape(extent) if isinstance(extent, tuple) else str(extent)


def text_table(
    rows: Sequence[Sequence[str]],
    align: str,
    rules: Sequence[int] = (1,),
    cut: Sequence[int] = (),
    width: int = 96,
) -> str:
    """Return rows of strings as an aligned text table.

    align: one letter a column, "l" (left) or "r" (right).
    rules: a line is drawn above each of these rows.
    cut: the columns that may be shortened to fit, the first choice first.
    width: of the longest line, in characters.
    """
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    excess = sum(sizes) + 2 * (len(sizes) - 1) - width
    for column in cut:
        less = max(0, min(excess, sizes[column] - 10))
        sizes[column] -= less
        excess -= less
    lines = []
    for index, row in enumerate(rows):
        if index in rules:
            lines.append("-" * (sum(sizes) + 2 * (len(sizes) - 1)))
        cells = [
            _cut(cell, size).rjust(size) if side == "r" else _cut(cell, size).ljust(size)
            for cell, size, side in zip(row, sizes, align, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cut(text: str, size: int) -> str:
    """Shorten a text in its middle: layer names differ at both ends."""
    if len(text) <= size:
        return text
    end = (size - 1) // 2
    return text[: size - 1 - end] + "…" + text[len(text) - end :]


def html_table(
    caption: str, rows: Sequence[Sequence[str]], align: str, footer: bool = False
) -> str:
    """Return rows of strings, the first the header, as an HTML table that follows the page's style.

    align: one letter a column, "l" (left) or "r" (right).
    footer: True puts the last row into the table's foot.
    """

    def line(row: Sequence[str], scopes: Sequence[str]) -> str:
        cells = []
        for cell, side, scope in zip(row, align, scopes, strict=True):
            tag, scope = ("th", f' scope="{scope}"') if scope else ("td", "")
            side = "right" if side == "r" else "left"
            cells.append(f'<{tag}{scope} style="text-align:{side}">{html.escape(cell)}</{tag}>')
        return f"<tr>{''.join(cells)}</tr>\n"

    by_row = ["row"] + [""] * (len(align) - 1)
    head, *body = rows
    foot = [body.pop()] if footer else []
    return (
        f"<table>\n<caption>{html.escape(caption)}</caption>\n"
        f"<thead>\n{line(head, ['col'] * len(align))}</thead>\n"
        f"<tbody>\n{''.join(line(row, by_row) for row in body)}</tbody>\n"
        + "".join(f"<tfoot>\n{line(row, by_row)}</tfoot>\n" for row in foot)
        + "</table>"
    )
