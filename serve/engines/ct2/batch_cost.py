"""Which prompts ctranslate2 runs together. It reads the prompts of a batch at once up to the length of the shortest, and the rest token by token in the
same steps that write the others' outputs; so prompts of unlike lengths slow each other down, and small batches waste each step's fixed cost.

What a batch takes was fitted to Gemma 3 270M in int8 on two cores (docs/results/serve-engines.md), in units of one sequence in one step.
"""

from __future__ import annotations

from collections.abc import Sequence

# A step costs as much as this many sequences in it: the weights are read from memory once.
STEP = 15.0
# A token that is read with the others of its prompt.
READ = 0.3
# Outputs are about as long as their source, and max_tokens allows about three times as much.
OUTPUT = 1 / 3


def split_batch(sizes: Sequence[tuple[int, int, int]], most: int, tokens: int) -> list[int]:
    """Where to cut prompts that are sorted by length so that the batches take the least time in all: the end of each batch.

    `sizes` are (tokens of the prompt, of the output as far as known, of both at most). A batch has at most `most` prompts, and unless it has only one,
    at most `tokens` tokens with all padded to the longest. Time is the square of the number of prompts.
    """
    best = [0.0]
    cut = [0]
    for end in range(1, len(sizes) + 1):
        least, best_start = float("inf"), end - 1
        longest = outputs = read = most_tokens = 0.0
        # A batch from `start` to `end`; the shortest prompt is at `start`, since they are sorted.
        for start in range(end - 1, max(-1, end - 1 - most), -1):
            size, output, tokens_at_most = sizes[start]
            n = end - start
            most_tokens = max(most_tokens, tokens_at_most)
            if n > 1 and most_tokens * n > tokens:
                break
            # Steps until a sequence is done: what is left of its prompt, and its output.
            longest = max(longest, size + output)
            outputs += size + output
            read = size * n
            cost = best[start] + READ * read + STEP * (longest - size) + (outputs - size * n)
            if cost < least:
                least, best_start = cost, start
        best.append(least)
        cut.append(best_start)
    ends = [len(sizes)]
    while cut[ends[-1]] > 0:
        ends.append(cut[ends[-1]])
    return ends[::-1]
