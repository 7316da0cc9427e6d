"""Words for the languages that the original vocabulary cannot spell.

MiniLM's vocabulary is English: of the Chinese characters in ordinary prompts it knows every second, 写 (write),
请 (please) and 证 (prove) not among them, so a Chinese request reached the network as a row of [UNK]. `glosses.tsv`
lists the characters, and the frequent words of other languages that would fall into letters, each with what it says
in English. A new token's vector starts as the mean of its gloss's vectors, so that the network reads the gloss at
once, and fine-tuning takes it from there. Whole words for letters make such prompts shorter, too.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from export.steps import ExportError

GLOSSES = Path(__file__).with_name("glosses.tsv")
NO_GLOSS = "-"  # a letter says nothing by itself
_UNKNOWN = "[UNK]"
_CONTINUES = "##"  # how WordPiece marks what stands inside of a word


def read_glosses(path: Path = GLOSSES) -> dict[str, str]:
    """Token → English gloss, in the file's order. ExportError names a line that is neither."""
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        token, _, gloss = line.partition("\t")
        if not token or not gloss.strip() or token in found:
            raise ExportError(f"{path.name}, line {number}: expected a new token, a tab and its gloss")
        found[token] = gloss.strip()
    return found


def extend(source: Path, out: Path, glosses: dict[str, str]) -> list[int]:
    """The weights and tokenizer of `source`, in `out`, with the tokens of `glosses`; returns their numbers.

    A token that the vocabulary has already keeps its number, and its vector becomes its gloss's all the same: the
    original ones were learned from English text, where it is a curiosity.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    shutil.copytree(source, out)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()  # its file asks for it, and a gloss would be drowned in padding
    document: dict[str, Any] = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = document["model"]["vocab"]
    wanted = {_normalised(tokenizer, token): gloss for token, gloss in glosses.items()}
    for token in wanted:
        vocabulary.setdefault(token, len(vocabulary))
    (out / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    if (out / "vocab.txt").is_file():
        (out / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n", "utf-8")

    model = AutoModel.from_pretrained(source, add_pooling_layer=False)
    old = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(len(vocabulary), mean_resizing=False)
    table = model.get_input_embeddings().weight.detach()
    usual = old.norm(dim=1).median()
    unknown = old[vocabulary[_UNKNOWN]]
    for token, gloss in wanted.items():
        ids = [] if gloss == NO_GLOSS else tokenizer.encode(gloss, add_special_tokens=False).ids
        mean = old[ids].mean(dim=0) if ids else unknown
        # A mean of several is shorter than any: the layer norm behind it expects vectors of the usual length.
        table[vocabulary[token]] = mean / mean.norm() * usual
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(table)
    model.save_pretrained(out)
    return sorted(vocabulary[token] for token in wanted)


def _normalised(tokenizer: Any, token: str) -> str:
    """`token` as the tokenizer sees it: lower case, decomposed, without accents."""
    mark = _CONTINUES if token.startswith(_CONTINUES) and len(token) > len(_CONTINUES) else ""
    return mark + str(tokenizer.normalizer.normalize_str(token.removeprefix(mark)).strip())
