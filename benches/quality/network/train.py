"""Makes model.onnx, tokenizer.json and checks.json beside this file of
target/quality-data/injection/training.jsonl. scripts/quality-network runs it.

A byte-level BPE, an embedding, convolutions over three and five tokens, the maximum over the window,
one logit: the small text classifier of Kim (2014). Adam with dropout, then Platt's calibration, folded
into the last layer. The seed decides everything; other processors may round otherwise.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

SEED = 20261122
VOCABULARY, SIZE, FILTERS, WIDTHS = 4096, 48, 64, (3, 5)
WINDOW, OVERLAP = 128, 32
EPOCHS, BATCH, RATE = 6, 64, 2e-3
WORDS_DROPPED, FEATURES_DROPPED = 0.1, 0.5
EXPECTED = 0.08  # the share of attacks for which scores are probabilities, as of the linear model
HERE = Path(__file__).parent
random = np.random.default_rng(SEED)


def made_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["[PAD]"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(HERE / "tokenizer.json"))
    return tokenizer


def padded(rows):
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
    return ids


class Network:
    def __init__(self):
        self.words = random.normal(0, 0.1, (VOCABULARY, SIZE)).astype("f")
        self.words[0] = 0
        scale = [np.sqrt(2 / (width * SIZE)) for width in WIDTHS]
        shapes = [(width * SIZE, FILTERS) for width in WIDTHS]
        self.filters = [random.normal(0, s, shape).astype("f") for s, shape in zip(scale, shapes)]
        self.offsets = [np.zeros(FILTERS, "f") for _ in WIDTHS]
        self.last = random.normal(0, 0.1, FILTERS * len(WIDTHS)).astype("f")
        self.bias = np.zeros(1, "f")

    def parameters(self):
        return [self.words, *self.filters, *self.offsets, self.last, self.bias]

    def features(self, ids):
        """The maximum of each filter, where it is, and what the filters see."""
        length, real = ids.shape[1], (ids > 0)[:, :, None]
        pools, places, seen = [], [], []
        for width, filters, offset in zip(WIDTHS, self.filters, self.offsets):
            half = width // 2
            words = np.pad(self.words[ids], ((0, 0), (half, half), (0, 0)))
            runs = np.concatenate([words[:, at : at + length] for at in range(width)], 2)
            heat = np.maximum(runs @ filters + offset, 0) * real
            pools.append(heat.max(1))
            places.append(heat.argmax(1))
            seen.append(runs)
        return np.concatenate(pools, 1), places, seen

    def margins(self, ids):
        return self.features(ids)[0] @ self.last + self.bias[0]

    def gradients(self, ids, labels, weights):
        pool, places, seen = self.features(ids)
        kept = (random.random(pool.shape) >= FEATURES_DROPPED) / (1 - FEATURES_DROPPED)
        dropped = (pool * kept).astype("f")
        error = 1 / (1 + np.exp(-(dropped @ self.last + self.bias[0]))) - labels
        error = (error * weights / len(ids)).astype("f")
        back = error[:, None] * self.last * kept * (pool > 0)
        words, filters, offsets = np.zeros_like(self.words), [], []
        rows, length = np.arange(len(ids))[:, None], ids.shape[1]
        for at, width in enumerate(WIDTHS):
            part = back[:, at * FILTERS : (at + 1) * FILTERS].astype("f")
            filters.append(np.einsum("bf,bfk->kf", part, seen[at][rows, places[at]], optimize=True))
            offsets.append(part.sum(0))
            to_words = part[:, :, None] * self.filters[at].T
            for step in range(width):
                place = places[at] + step - width // 2
                inside = (place >= 0) & (place < length)
                hit = np.where(inside, ids[rows, np.clip(place, 0, length - 1)], 0)
                np.add.at(words, hit, to_words[:, :, step * SIZE : (step + 1) * SIZE])
        words[0] = 0
        return [words, *filters, *offsets, dropped.T @ error, error.sum(keepdims=True)]


def train(network, rows, labels, weights):
    parameters = network.parameters()
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    step, steps = 0, EPOCHS * (len(rows) // BATCH + 1)
    for epoch in range(EPOCHS):
        # Neighbours of like length, in batches of random order.
        order = sorted(range(len(rows)), key=lambda at: (min(len(rows[at]), WINDOW), random.random()))
        batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        for batch in random.permutation(len(batches)):
            chosen = batches[batch]
            starts = [random.integers(0, max(1, len(rows[at]) - WINDOW + 1)) for at in chosen]
            ids = padded([rows[at][start : start + WINDOW] for at, start in zip(chosen, starts)])
            ids = np.where(random.random(ids.shape) < WORDS_DROPPED, random.integers(1, VOCABULARY, ids.shape) * (ids > 0), ids)
            step += 1
            rate = RATE * (1 - step / (steps + 1))
            for p, g, m, v in zip(parameters, network.gradients(ids, labels[chosen], weights[chosen]), first, second):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        print("epoch", epoch + 1, flush=True)


def hottest(network, tokenizer, texts):
    tokenizer.enable_truncation(WINDOW, stride=OVERLAP)
    margins = []
    for text in texts:
        first = tokenizer.encode(text)
        windows = [first.ids, *(more.ids for more in first.overflowing)]
        margins.append(max(float(network.margins(padded([ids]))[0]) for ids in windows if ids) if first.ids else -9.0)
    return np.array(margins)


def platt(margins, labels):
    slope, offset = 1.0, 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-(slope * margins + offset)))
        error, spread = p - labels, p * (1 - p)
        g = error @ margins, error.sum()
        h = (spread * margins) @ margins + 1e-9, spread @ margins, spread.sum() + 1e-9
        determinant = h[0] * h[2] - h[1] ** 2
        slope -= (h[2] * g[0] - h[1] * g[1]) / determinant
        offset -= (h[0] * g[1] - h[1] * g[0]) / determinant
    odds = labels.sum() / (len(labels) - labels.sum())
    return slope, offset - np.log(odds) + np.log(EXPECTED / (1 - EXPECTED))


def write(network, slope, offset):
    constants = {"words": network.words}
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["by_size"], perm=[0, 2, 1]),
    ]
    for width, filters, shift in zip(WIDTHS, network.filters, network.offsets):
        constants[f"filters{width}"] = filters.reshape(width, SIZE, FILTERS).transpose(2, 1, 0).copy()
        constants[f"offsets{width}"] = shift
        inputs = ["by_size", f"filters{width}", f"offsets{width}"]
        nodes.append(helper.make_node("Conv", inputs, [f"heat{width}"], kernel_shape=[width], pads=[width // 2] * 2))
    constants["classes"] = np.stack([np.zeros_like(network.last), network.last * slope], 1).astype("f")
    constants["bias"] = np.array([0, network.bias[0] * slope + offset], "f")
    nodes += [
        helper.make_node("Concat", [f"heat{width}" for width in WIDTHS], ["heat"], axis=1),
        helper.make_node("Relu", ["heat"], ["positive"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask"], ["real"], axes=[1]),
        helper.make_node("Mul", ["positive", "real"], ["masked"]),
        helper.make_node("ReduceMax", ["masked"], ["pool"], axes=[2], keepdims=0),
        helper.make_node("Gemm", ["pool", "classes", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, "length"]) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "injection", inputs, [output], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, HERE / "model.onnx")


def main():
    lines = Path("target/quality-data/injection/training.jsonl").read_text(encoding="utf-8").splitlines()
    given = [json.loads(line) for line in lines]
    learnt = [row for row in given if not row["calibrates"]]
    tokenizer = made_tokenizer(row["text"] for row in learnt)
    rows = [encoded.ids for encoded in tokenizer.encode_batch([row["text"] for row in learnt])]
    labels = np.array([row["label"] for row in learnt], "f")
    weights = np.array([row["weight"] for row in learnt], "f")
    kept = [at for at, row in enumerate(rows) if row]
    print(len(kept), "texts,", int(labels.sum()), "attacks", flush=True)
    network = Network()
    train(network, [rows[at] for at in kept], labels[kept], weights[kept])
    calibrates = [row for row in given if row["calibrates"]]
    margins = hottest(network, tokenizer, [row["text"] for row in calibrates])
    slope, offset = platt(margins, np.array([row["label"] for row in calibrates], float))
    write(network, slope, offset)
    scores = 1 / (1 + np.exp(-(slope * margins + offset)))
    checks = [[row["text"], round(float(score), 6)] for row, score in zip(calibrates, scores)][::130]
    (HERE / "checks.json").write_text(json.dumps(checks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print("slope", slope, "offset", offset)


main()
