"""Reads the instructions of a pickle without following them: what would come out, and how large.

torch.load(weights_only=True) runs no code from a file, but takes what a file says of sizes for
granted: a tensor that is larger than its bytes, or nested containers that unfold without end. Here
the instructions that torch.save writes (pickle protocol 2) are gone through with placeholders for
everything that would take memory, and any other instruction or name is refused.
"""

import pickletools

MOST_BYTES = 256 * 2**20  # of instructions; the weights themselves lie beside them
MOST_SHARED = 100  # values of a container that may stand in several places
STORAGES = {  # of torch, and bytes of an element
    "DoubleStorage": 8,
    "LongStorage": 8,
    "FloatStorage": 4,
    "IntStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
ORDERED_DICT = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"
NAMES = {ORDERED_DICT, TENSOR, PARAMETER, *(f"torch {name}" for name in STORAGES)}
PLAIN = {  # instructions that bring a value of their own
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


class UnsafePickleError(Exception):
    """The pickle is not what torch.save writes for tensors and plain data; says why."""


class _Name(str):
    """A class or function, by module and name."""


class _Container:
    """In the place of a list or dict that would be made. size: of it and all that is in it."""

    def __init__(self):
        self.size = 1


class _Tuple(tuple):
    size = 1


class _Tensor:
    """In the place of a tensor; or, with `items`, of the storage of one."""

    def __init__(self, items=None):
        self.items = items


def check_pickle(content, lengths):
    """Raise UnsafePickleError unless `content` makes tensors and plain data of a bounded size.

    content: bytes of a pickle. lengths: bytes of each storage in the file by its key. Every tensor
    must lie in its storage, and hold no element twice.
    """
    if len(content) > MOST_BYTES:
        raise UnsafePickleError("its list of contents is too long")
    try:
        _Reader(lengths).read(content)
    except UnsafePickleError:
        raise
    except Exception as error:  # a pickle cut anywhere: no operands, no mark, no such memory
        raise UnsafePickleError("its list of contents is damaged") from error


class _Reader:
    def __init__(self, lengths):
        self.lengths = lengths
        self.stack, self.memory = [], {}

    def read(self, content):
        for instruction, value, _ in pickletools.genops(content):
            name = instruction.name
            if name in PLAIN:
                self.stack.append(value)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in TUPLES:
                self._tuple([self.stack.pop() for _ in range(TUPLES[name])][::-1])
            else:
                self._other(name, value)

    def _other(self, name, value):
        stack = self.stack
        match name:
            case "PROTO" if value == 2:
                pass
            case "STOP":
                if len(stack) != 1:
                    raise UnsafePickleError("its list of contents is damaged")
            case "MARK":
                stack.append(MARK)
            case "TUPLE":
                self._tuple(self._to_mark())
            case "EMPTY_DICT" | "EMPTY_LIST":
                stack.append(_Container())
            case "BINPUT" | "LONG_BINPUT":
                self.memory[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                found = self.memory[value]
                if getattr(found, "size", 1) > MOST_SHARED:
                    raise UnsafePickleError("a large list in it stands in several places")
                stack.append(found)
            case "GLOBAL":
                if value not in NAMES:
                    raise UnsafePickleError(f"it holds more than weights and plain data ({value})")
                stack.append(_Name(value))
            case "APPEND":
                self._into([stack.pop()])
            case "SETITEM":
                self._into([stack.pop(), stack.pop()][::-1], keyed=True)
            case "APPENDS":
                self._into(self._to_mark())
            case "SETITEMS":
                self._into(self._to_mark(), keyed=True)
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._made(function, arguments))
            case "BUILD":  # of a state_dict, whose versions of modules are attributes
                self._into([stack.pop()])
            case _:
                raise UnsafePickleError(f"it holds more than weights and plain data ({name})")

    def _to_mark(self):
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def _tuple(self, values):
        made = _Tuple(values)
        made.size = 1 + sum(getattr(value, "size", 1) for value in values)
        self.stack.append(made)

    def _into(self, values, keyed=False):
        container = self.stack[-1]
        if not isinstance(container, _Container):
            raise UnsafePickleError("its list of contents is damaged")
        if keyed and any(isinstance(key, _Tuple | _Container | _Tensor) for key in values[::2]):
            raise UnsafePickleError("a key in it is no text or number")
        container.size += sum(getattr(value, "size", 1) for value in values)

    def _storage(self, described):
        kind, storage, key, _, items = described
        if kind != "storage" or not isinstance(storage, _Name) or key not in self.lengths:
            raise UnsafePickleError("a tensor in it has no bytes")
        width = STORAGES.get(storage.removeprefix("torch "))
        if width is None or type(items) is not int or items * width != self.lengths[key]:
            raise UnsafePickleError("a tensor in it is not as large as its bytes")
        return _Tensor(items)

    def _made(self, function, arguments):
        if function == ORDERED_DICT and arguments == ():
            return _Container()
        if function == PARAMETER and type(arguments[0]) is _Tensor:
            return arguments[0]
        if function != TENSOR:
            raise UnsafePickleError("its list of contents is damaged")
        storage, offset, size, stride = arguments[:4]
        whole = all(type(n) is int and n >= 0 for n in (offset, *size, *stride))
        if not whole or len(size) != len(stride) or storage.items is None:
            raise UnsafePickleError("a tensor in it has no shape")
        if 0 not in size:
            # places in ascending order of stride: each step must go beyond all of the ones below
            reach = 0
            for step, count in sorted(zip(stride, size, strict=True)):
                if count > 1:
                    if step <= reach:
                        raise UnsafePickleError("a tensor in it is larger than its bytes")
                    reach += step * (count - 1)
            if offset + reach >= storage.items:
                raise UnsafePickleError("a tensor in it is larger than its bytes")
        return _Tensor()
