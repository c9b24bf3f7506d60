"""Weights of a tiny Stable Diffusion in one file, with the names of the original code."""

import re
from pathlib import Path

import gguf
from safetensors.torch import load_file, save_file
from torch import Tensor

# Names in the UNet: of residual blocks, and of single layers.
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_TOP_LEVEL = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(folder: Path, path: Path, *, parts: tuple[str, ...] = ("unet", "vae", "text_encoder")) -> Path:
    """Write these components of a pipeline's folder as one checkpoint."""
    layouts = {"unet": convert_unet, "vae": convert_vae, "text_encoder": convert_text_encoder}
    weights: dict[str, Tensor] = {}
    for part in parts:
        weights |= layouts[part](load_file(next((folder / part).glob("*.safetensors"))))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return path


def convert_unet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.diffusion_model.{_unet_name(name)}": weight for name, weight in weights.items()}


def _unet_name(name: str, layers: int = 1) -> str:
    for ours, theirs in _TOP_LEVEL.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, index, rest = found.groups()
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}.{_inner_name(kind, rest)}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert found, name
    way, block, kind, index, rest = found.groups()
    each = layers + 1
    if kind == "downsamplers":
        return f"input_blocks.{each * (int(block) + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":  # the tiny UNet's first up block has attention before the upsampler
        return f"output_blocks.{each * int(block) + layers}.2.{rest}"
    place = each * int(block) + int(index) + (1 if way == "down" else 0)
    return (
        f"{'input' if way == 'down' else 'output'}_blocks.{place}.{int(kind == 'attentions')}.{_inner_name(kind, rest)}"
    )


def _inner_name(kind: str, rest: str) -> str:
    module, _, leaf = rest.rpartition(".")
    return f"{_RESNET[module]}.{leaf}" if kind == "resnets" else rest


def convert_vae(weights: dict[str, Tensor], blocks: int = 2) -> dict[str, Tensor]:
    found = {}
    for name, weight in weights.items():
        attention = ".attentions." in name and "group_norm" not in name and name.endswith("weight")
        found[f"first_stage_model.{_vae_name(name, blocks)}"] = weight[..., None, None] if attention else weight
    return found


def _vae_name(name: str, blocks: int) -> str:
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        before, _, rest = name.partition("mid_block.attentions.0.")
        module, _, leaf = rest.rpartition(".")
        return f"{before}mid.attn_1.{_VAE_ATTENTION[module]}.{leaf}"
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{blocks - 1 - int(found[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{blocks - 1 - int(found[1])}.upsample", name)


def convert_text_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "cond_stage_model.transformer.text_model."
    return {prefix + name.removeprefix("text_model."): weight for name, weight in weights.items()}


def save_gguf(weights: dict[str, Tensor], path: Path) -> Path:
    """Write weights as GGUF: matrices in blocks of eight bits (Q8_0), all others in full precision."""
    writer = gguf.GGUFWriter(path, "flux")
    for name, weight in weights.items():
        quantized = weight.ndim == 2 and weight.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if quantized else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(weight.float().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
