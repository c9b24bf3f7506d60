"""The tokenizer: a byte-level BPE in CLIP's format, trained on the captions."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

VOCABULARY = 1000
LENGTH = 32
END_OF_WORD = "</w>"


def learn(captions: list[str]) -> CLIPTokenizer:
    """Train a vocabulary that has every byte, within a word and at its end, so that no prompt has an unknown token."""
    blank = CLIPTokenizer()
    bpe = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD, unk_token=blank.unk_token))
    bpe.normalizer = blank.backend_tokenizer.normalizer
    bpe.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[blank.bos_token, blank.eos_token, *alphabet, *(byte + END_OF_WORD for byte in alphabet)],
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=learned["vocab"], merges=merges, model_max_length=LENGTH)
