"""Check the instructions of a pickle without executing them.

torch.load(weights_only=True) runs no code of a file, but trusts the sizes it states: a tensor may
be larger than its bytes, and nested containers may grow exponentially. This module interprets the
instructions that torch.save writes (pickle protocol 2) with placeholders for everything that takes
memory, and refuses any other instruction or name.
"""

import pickletools
from collections.abc import Mapping

MAX_BYTES = 256 * 2**20  # of instructions; the weights are in other members of the zip
MAX_SHARED = 100  # values of a container that is referenced more than once
STORAGES = {  # bytes per element
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
ALLOWED_NAMES = {ORDERED_DICT, TENSOR, PARAMETER, *(f"torch {name}" for name in STORAGES)}
PLAIN = {  # instructions that push their operand
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


class UnsafePickleError(Exception):
    """The pickle is not one that torch.save writes for tensors and plain data."""


class _Name(str):
    """Placeholder for a class or function: its module and name."""


class _Container:
    """Placeholder for a list or dict. size: number of values in it, nested ones included."""

    def __init__(self):
        self.size = 1


class _Tuple(tuple):
    """A tuple of placeholders, with the size of a _Container."""

    size = 1


class _Tensor:
    """Placeholder for a tensor, or for a storage of `items` elements."""

    def __init__(self, items=None):
        self.items = items


def check_pickle(content: bytes, lengths: Mapping[str, int]) -> None:
    """Raise UnsafePickleError unless `content` yields tensors and plain data of bounded size.

    content: a pickle. lengths: bytes of each storage in the file, by key. Every tensor must lie
    within its storage and use each element once.
    """
    if len(content) > MAX_BYTES:
        raise UnsafePickleError("its list of contents is too long")
    try:
        _Reader(lengths).read(content)
    except UnsafePickleError:
        raise
    except Exception as error:  # operands, mark or memo entry missing
        raise UnsafePickleError("its list of contents is damaged") from error


class _Reader:
    """Interpret instructions with a stack and a memo of placeholders."""

    def __init__(self, lengths):
        self.lengths = lengths
        self.stack, self.memo = [], {}

    def read(self, content):
        for instruction, value, _ in pickletools.genops(content):
            name = instruction.name
            if name in PLAIN:
                self.stack.append(value)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in TUPLES:
                self._push_tuple([self.stack.pop() for _ in range(TUPLES[name])][::-1])
            else:
                self._execute(name, value)

    def _execute(self, name, value):
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
                self._push_tuple(self._pop_to_mark())
            case "EMPTY_DICT" | "EMPTY_LIST":
                stack.append(_Container())
            case "BINPUT" | "LONG_BINPUT":
                self.memo[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                found = self.memo[value]
                if getattr(found, "size", 1) > MAX_SHARED:
                    raise UnsafePickleError("a large list in it is referenced more than once")
                stack.append(found)
            case "GLOBAL":
                if value not in ALLOWED_NAMES:
                    raise UnsafePickleError(f"it holds more than weights and plain data ({value})")
                stack.append(_Name(value))
            case "APPEND":
                self._extend([stack.pop()])
            case "SETITEM":
                self._extend([stack.pop(), stack.pop()][::-1], keyed=True)
            case "APPENDS":
                self._extend(self._pop_to_mark())
            case "SETITEMS":
                self._extend(self._pop_to_mark(), keyed=True)
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD":  # module versions are attributes of a state_dict
                self._extend([stack.pop()])
            case _:
                raise UnsafePickleError(f"it holds more than weights and plain data ({name})")

    def _pop_to_mark(self):
        values = []
        while (value := self.stack.pop()) is not MARK:
            values.append(value)
        return values[::-1]

    def _push_tuple(self, values):
        placeholder = _Tuple(values)
        placeholder.size = 1 + sum(getattr(value, "size", 1) for value in values)
        self.stack.append(placeholder)

    def _extend(self, values, keyed=False):
        container = self.stack[-1]
        if not isinstance(container, _Container):
            raise UnsafePickleError("its list of contents is damaged")
        if keyed and any(isinstance(key, _Tuple | _Container | _Tensor) for key in values[::2]):
            raise UnsafePickleError("a key in it is neither a string nor a number")
        container.size += sum(getattr(value, "size", 1) for value in values)

    def _storage(self, reference):
        kind, storage, key, _, items = reference
        if kind != "storage" or not isinstance(storage, _Name) or key not in self.lengths:
            raise UnsafePickleError("a tensor in it has no bytes")
        width = STORAGES.get(storage.removeprefix("torch "))
        if width is None or type(items) is not int or items * width != self.lengths[key]:
            raise UnsafePickleError("the size of a tensor in it differs from that of its bytes")
        return _Tensor(items)

    def _call(self, function, arguments):
        if function == ORDERED_DICT and arguments == ():
            return _Container()
        if function == PARAMETER and type(arguments[0]) is _Tensor:
            return arguments[0]
        if function != TENSOR:
            raise UnsafePickleError("its list of contents is damaged")
        storage, offset, size, stride = arguments[:4]
        whole = all(type(n) is int and n >= 0 for n in (offset, *size, *stride))
        if not whole or len(size) != len(stride) or storage.items is None:
            raise UnsafePickleError("the shape of a tensor in it is not valid")
        if 0 not in size:
            # in ascending order of stride, each step must exceed the extent of all smaller ones
            extent = 0
            for step, count in sorted(zip(stride, size, strict=True)):
                if count > 1:
                    if step <= extent:
                        raise UnsafePickleError("a tensor in it is larger than its bytes")
                    extent += step * (count - 1)
            if offset + extent >= storage.items:
                raise UnsafePickleError("a tensor in it is larger than its bytes")
        return _Tensor()
