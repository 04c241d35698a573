"""A writer of LLVM's assembly text: fresh names, and loops whose values go round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Body = Callable[[str, list[str]], list[str]]
"""Given the loop's index and its carried values, writes a round and gives their next values."""


class Assembly:
    """The text of one function, line by line.

    Args:
        name: The function's name.
        arguments: Its arguments as "type %name".
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self._count = 0
        self._lines = [f"define void @{name}({', '.join(arguments)}) {{", "entry:"]
        self._label = "entry"

    def let(self, text: str) -> str:
        """Write an instruction that has a value; gives the value's name."""
        name = f"%v{self._fresh()}"
        self._lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Write an instruction without a value."""
        self._lines.append(f"  {text}")

    def at(self, pointer: str, kind: str, index: str) -> str:
        """The address of an element of an array of `kind`."""
        return self.let(f"getelementptr {kind}, ptr {pointer}, i64 {index}")

    def load(self, pointer: str, kind: str, index: str, alignment: int = 1) -> str:
        """An element of an array of `kind`."""
        return self.let(f"load {kind}, ptr {self.at(pointer, kind, index)}, align {alignment}")

    def loop(
        self, start: str, stop: str, body: Body, carried: Sequence[tuple[str, str]] = ()
    ) -> list[str]:
        """Write a loop over start <= index < stop, in steps of one.

        Args:
            start: First index, an i64.
            stop: Index behind the last one.
            body: Writes a round.
            carried: Type and first value of what goes round.

        Returns:
            The carried values behind the loop.
        """
        number = self._fresh()
        head, inside, behind = f"head{number}", f"inside{number}", f"behind{number}"
        before, index = self._label, f"%index{number}"
        names = [f"%carried{number}.{place}" for place in range(len(carried))]
        self.do(f"br label %{head}")
        self._begin(head)
        top = len(self._lines)
        more = self.let(f"icmp slt i64 {index}, {stop}")
        self.do(f"br i1 {more}, label %{inside}, label %{behind}")
        self._begin(inside)
        following = body(index, names)
        advanced, last = self.let(f"add nsw i64 {index}, 1"), self._label
        self.do(f"br label %{head}")
        phis = [f"  {index} = phi i64 [{start}, %{before}], [{advanced}, %{last}]"]
        for name, (kind, first), value in zip(names, carried, following, strict=True):
            phis.append(f"  {name} = phi {kind} [{first}, %{before}], [{value}, %{last}]")
        self._lines[top:top] = phis
        self._begin(behind)
        return names

    def shares(self, counter: str, count: str, step: str, body: Callable[[str], None]) -> None:
        """Write a loop over indices that several threads share out by a counter.

        Args:
            counter: Pointer to the i64 that all threads count with; zero at the start.
            count: Number of indices.
            step: How many a thread takes at once.
            body: Writes the work of one index.
        """
        number = self._fresh()
        head, inside, behind = f"take{number}", f"taken{number}", f"done{number}"
        self.do(f"br label %{head}")
        self._begin(head)
        first = self.let(f"atomicrmw add ptr {counter}, i64 {step} monotonic")
        more = self.let(f"icmp slt i64 {first}, {count}")
        self.do(f"br i1 {more}, label %{inside}, label %{behind}")
        self._begin(inside)
        end = self.let(f"add nsw i64 {first}, {step}")
        last = self.let(f"call i64 @llvm.smin.i64(i64 {end}, i64 {count})")

        def work(index: str, carried: list[str]) -> list[str]:
            body(index)
            return carried

        self.loop(first, last, work)
        self.do(f"br label %{head}")
        self._begin(behind)

    def finish(self) -> str:
        """End the function; gives its text."""
        return "\n".join([*self._lines, "  ret void", "}"])

    def _fresh(self) -> int:
        self._count += 1
        return self._count

    def _begin(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._label = label
