"""Tiny tokenizers, which split words into characters, and tiny text encoders with random weights."""

from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

HIDDEN = 16
CHARACTERS = [chr(code) for code in range(33, 127)]
BYTES = sorted(ByteLevel.alphabet())
LAYER = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": HIDDEN, "hidden_size": HIDDEN}
CHAT = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def clip_tokenizer() -> CLIPTokenizer:
    start, end = "<|startoftext|>", "<|endoftext|>"
    vocab = _numbered([start, end, *BYTES, *(f"{byte}</w>" for byte in BYTES)])
    return CLIPTokenizer(vocab=vocab, merges=[], bos_token=start, eos_token=end, model_max_length=77)


def clip_config() -> CLIPTextConfig:
    size = len(clip_tokenizer())
    return CLIPTextConfig(
        vocab_size=size, projection_dim=HIDDEN, bos_token_id=0, eos_token_id=1, pad_token_id=1, **LAYER
    )


def clip() -> CLIPTextModel:
    return CLIPTextModel(clip_config())


def clip_with_projection() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(clip_config())


def t5_tokenizer() -> T5Tokenizer:
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((char, -3.0) for char in CHARACTERS)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


T5_SIZES = {"vocab_size": 128, "d_kv": 8, "d_ff": HIDDEN, "num_layers": 1, "num_heads": 2}


def t5(hidden: int = HIDDEN) -> T5EncoderModel:
    return T5EncoderModel(T5Config(d_model=hidden, **T5_SIZES))


def umt5() -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(d_model=HIDDEN, **T5_SIZES))


def bert_tokenizer() -> BertTokenizer:
    pieces = [piece for char in CHARACTERS for piece in (char, f"##{char}")]
    vocab = _numbered(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
    return BertTokenizer(vocab=vocab, model_max_length=77)


def bert() -> BertModel:
    return BertModel(BertConfig(vocab_size=len(bert_tokenizer()), **LAYER))


def gemma_tokenizer() -> GemmaTokenizer:
    vocab = _numbered(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *CHARACTERS])
    return GemmaTokenizer(vocab=vocab, merges=[])


def gemma() -> Gemma2Model:
    size = len(gemma_tokenizer())
    return Gemma2Model(Gemma2Config(vocab_size=size, num_key_value_heads=1, head_dim=8, **LAYER))


def qwen_tokenizer() -> Qwen2Tokenizer:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = Qwen2Tokenizer(vocab=_numbered([*special, *BYTES]), merges=[], extra_special_tokens=special[1:])
    made.chat_template = CHAT
    return made


def qwen3() -> Qwen3Model:
    return Qwen3Model(Qwen3Config(vocab_size=len(qwen_tokenizer()), num_key_value_heads=1, head_dim=8, **LAYER))


def qwen2_5_vl() -> Qwen2_5_VLForConditionalGeneration:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2]}
    text = {"vocab_size": len(qwen_tokenizer()), "num_key_value_heads": 2, "rope_scaling": rope, **LAYER}
    vision = {"depth": 1, "hidden_size": HIDDEN, "intermediate_size": HIDDEN, "num_heads": 2, "out_hidden_size": HIDDEN}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return Qwen2_5_VLForConditionalGeneration(config)
