"""The tables of version 0.1, whose first migration had the same name: its databases count this one as applied."""

import uuid

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
import django.db.models.fields.json
import django.db.models.functions.comparison
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("name", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.PositiveIntegerField()),
                ("version", models.CharField(help_text="Version of the service.", max_length=64)),
                (
                    "device",
                    models.CharField(blank=True, help_text="Empty until its engine has started.", max_length=32),
                ),
                ("device_name", models.CharField(blank=True, max_length=255)),
                ("memory_used", models.PositiveBigIntegerField(blank=True, help_text="In bytes.", null=True)),
                ("memory_total", models.PositiveBigIntegerField(blank=True, null=True)),
                (
                    "warm",
                    models.JSONField(
                        blank=True, default=list, help_text="The models that are loaded, with their revisions."
                    ),
                ),
                (
                    "uses",
                    models.JSONField(blank=True, default=list, help_text="Loads and cache hits of each model."),
                ),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                ("left_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ("host", "name"),
            },
        ),
        migrations.CreateModel(
            name="ApiKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token_key", models.CharField(db_index=True, max_length=25)),
                ("created", models.DateTimeField(auto_now_add=True)),
                ("expiry", models.DateTimeField(blank=True, null=True)),
                ("digest", models.CharField(editable=False, max_length=128, unique=True)),
                ("name", models.CharField(help_text="Purpose of the key.", max_length=100)),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("read", "read own tasks"),
                                ("read-any", "read all tasks"),
                                ("submit", "submit tasks and cancel own tasks"),
                                ("cancel-any", "cancel all tasks"),
                                ("models", "list the models"),
                            ],
                            max_length=16,
                        ),
                        size=None,
                    ),
                ),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                (
                    "rate_per_minute",
                    models.PositiveIntegerField(
                        blank=True, help_text="Requests per minute. Empty: RATE_LIMIT_PER_MINUTE.", null=True
                    ),
                ),
                (
                    "max_queued",
                    models.PositiveIntegerField(
                        blank=True, help_text="Queued tasks at once. Empty: MAX_QUEUED_PER_KEY.", null=True
                    ),
                ),
                (
                    "max_running",
                    models.PositiveIntegerField(
                        blank=True, help_text="Running tasks at once. Empty: MAX_RUNNING_PER_KEY.", null=True
                    ),
                ),
                (
                    "webhook_url",
                    models.URLField(
                        blank=True,
                        help_text="Default webhook for this key's tasks.",
                        max_length=2000,
                        verbose_name="webhook URL",
                    ),
                ),
                (
                    "webhook_events",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[("succeeded", "Succeeded"), ("failed", "Failed"), ("canceled", "Canceled")],
                            max_length=16,
                        ),
                        blank=True,
                        default=list,
                        help_text="Leave empty for all events.",
                        size=None,
                    ),
                ),
                (
                    "webhook_secret",
                    models.CharField(editable=False, help_text="Signs the key's webhooks.", max_length=100),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="auth_token_set",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "API key",
                "ordering": ("name", "pk"),
            },
        ),
        migrations.CreateModel(
            name="ChosenModel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255)),
                (
                    "key",
                    models.ForeignKey(
                        help_text="Empty for callers without a key.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to=settings.KNOX_TOKEN_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="DiffusionModel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "model_id",
                    models.CharField(
                        help_text="A model of MODELS_DIR or an id on the Hub.",
                        max_length=255,
                        unique=True,
                        verbose_name="model",
                    ),
                ),
                (
                    "aliases",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=255),
                        blank=True,
                        default=list,
                        help_text="Other names that requests may use, separated by commas.",
                        size=None,
                    ),
                ),
                (
                    "revision",
                    models.CharField(blank=True, help_text="Pinned commit (empty: latest).", max_length=255),
                ),
                (
                    "allowed",
                    models.BooleanField(default=True, help_text="Requests may name this model."),
                ),
                (
                    "is_default",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="Model of requests that name none. If no row is the default, DEFAULT_MODEL_ID is.",
                        verbose_name="default",
                    ),
                ),
                (
                    "license_note",
                    models.TextField(blank=True, help_text="For operators; shown in the API as `license`."),
                ),
                ("steps", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("guidance_scale", models.FloatField(blank=True, null=True)),
                (
                    "width",
                    models.PositiveSmallIntegerField(
                        blank=True, help_text="In pixels; set the height, too.", null=True
                    ),
                ),
                ("height", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("scheduler", models.CharField(blank=True, max_length=32)),
                ("negative_prompt", models.TextField(blank=True)),
                (
                    "dtype",
                    models.CharField(
                        blank=True,
                        choices=[("float32", "Float32"), ("float16", "Float16"), ("bfloat16", "Bfloat16")],
                        help_text="Empty: INFERENCE_DTYPE.",
                        max_length=16,
                    ),
                ),
                (
                    "offload",
                    models.CharField(
                        choices=[
                            ("none", "nothing"),
                            ("model", "components at rest"),
                            ("sequential", "layers at rest"),
                        ],
                        default="none",
                        max_length=16,
                    ),
                ),
                (
                    "compile_blocks",
                    models.BooleanField(
                        default=False,
                        help_text="Compile the repeated blocks. The first image of each size waits for this, up to minutes: keep "
                        "it below STEP_TIMEOUT_SECONDS. Needs a C++ compiler on the worker. Changes images by rounding "
                        "only.",
                        verbose_name="compile",
                    ),
                ),
                (
                    "channels_last",
                    models.BooleanField(
                        default=False,
                        help_text="Memory layout that is faster for convolutions on tensor cores; for U-Nets. Changes images by "
                        "rounding only.",
                    ),
                ),
                (
                    "fuse_qkv",
                    models.BooleanField(
                        default=False,
                        help_text="Compute query, key and value in one matrix product; keeps these weights twice. Changes images "
                        "by rounding only.",
                        verbose_name="fuse QKV",
                    ),
                ),
                (
                    "attention_backend",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("native", "Native"),
                            ("_native_cudnn", "Native Cudnn"),
                            ("_native_efficient", "Native Efficient"),
                            ("_native_flash", "Native Flash"),
                            ("_native_math", "Native Math"),
                            ("flex", "Flex"),
                            ("flash", "Flash"),
                            ("_flash_3", "Flash 3"),
                            ("sage", "Sage"),
                            ("xformers", "Xformers"),
                        ],
                        help_text="For diffusion transformers. flash, _flash_3, sage and xformers need their packages on the "
                        "worker. sage is quantized, which changes images.",
                        max_length=32,
                    ),
                ),
                (
                    "step_cache",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("first_block", "First Block"),
                            ("taylorseer", "Taylorseer"),
                            ("pyramid_attention", "Pyramid Attention"),
                        ],
                        help_text="For diffusion transformers: reuse results that change little between steps. Changes images, "
                        "also depending on the other images of the batch.",
                        max_length=32,
                    ),
                ),
                (
                    "quantization",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("int8", "Int8"),
                            ("int8_dynamic", "Int8 Dynamic"),
                            ("float8", "Float8"),
                            ("nf4", "Nf4"),
                        ],
                        help_text="Quantize the denoiser's weights: saves memory, and on some devices time. Changes images. Needs "
                        "torchao on the worker; nf4 needs bitsandbytes and an accelerator.",
                        max_length=32,
                    ),
                ),
                (
                    "vae_slicing",
                    models.BooleanField(
                        default=False,
                        help_text="Decode the images of a batch one by one: saves memory, takes longer. Changes no image.",
                        verbose_name="VAE slicing",
                    ),
                ),
                (
                    "vae_tiling",
                    models.BooleanField(
                        default=False,
                        help_text="Decode large images in overlapping tiles: saves much memory, takes longer. Slightly changes "
                        "images larger than a tile.",
                        verbose_name="VAE tiling",
                    ),
                ),
                (
                    "prompt_weighting",
                    models.BooleanField(
                        db_default=False,
                        default=False,
                        help_text="Read (words:1.3), (words) and [words] as weights, and use prompts beyond 77 tokens. For Stable "
                        "Diffusion 1, 2, XL and latent consistency models. Changes the images of such prompts only.",
                    ),
                ),
                (
                    "max_batch",
                    models.PositiveSmallIntegerField(
                        blank=True,
                        help_text="Most images of one pipeline call, from one request or several. Empty: the server's limits.",
                        null=True,
                    ),
                ),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "verbose_name": "model",
                "ordering": ("model_id",),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("is_default", True)),
                        fields=("is_default",),
                        name="model_default_unique",
                        violation_error_message="Another model is the default.",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Pause",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[("queue", "Queue"), ("model", "Model"), ("worker", "Worker")], max_length=16
                    ),
                ),
                ("target", models.CharField(blank=True, help_text="The model's or the worker's name.", max_length=255)),
                ("since", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "by",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Task",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("task_type", models.CharField(max_length=64)),
                ("provider", models.CharField(max_length=64)),
                ("requested_model_id", models.CharField(max_length=255, verbose_name="requested model")),
                (
                    "model_id",
                    models.CharField(
                        help_text="The model that the requested name resolved to.", max_length=255, verbose_name="model"
                    ),
                ),
                ("revision", models.CharField(blank=True, help_text="The commit that was loaded.", max_length=255)),
                ("params", models.JSONField(help_text="All effective parameters except provider, model and seed.")),
                (
                    "sent",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32),
                        blank=True,
                        default=list,
                        help_text="Parameters that the client set itself: a model that doesn't support them refuses the task.",
                        size=None,
                    ),
                ),
                ("seed", models.BigIntegerField()),
                ("priority", models.SmallIntegerField(default=0)),
                (
                    "batch_key",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        help_text="Tasks with the same key may run in one pipeline call. Empty: the task runs alone.",
                        max_length=32,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("canceled", "Canceled"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                (
                    "phase",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("loading", "Loading"),
                            ("denoising", "Denoising"),
                            ("decoding", "Decoding"),
                            ("saving", "Saving"),
                        ],
                        max_length=16,
                    ),
                ),
                ("step", models.PositiveIntegerField(default=0)),
                ("total_steps", models.PositiveIntegerField(default=0)),
                (
                    "attempt",
                    models.PositiveIntegerField(default=0, help_text="Rises with every claim and fences its writes."),
                ),
                ("losses", models.PositiveIntegerField(default=0, help_text="How often a worker's lease ran out.")),
                (
                    "max_attempts",
                    models.PositiveIntegerField(default=3, help_text="The task fails at this many losses."),
                ),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("worker", models.CharField(blank=True, max_length=255)),
                (
                    "woken_at",
                    models.DateTimeField(
                        blank=True, help_text="When the sweeper last sent a wake-up for it.", null=True
                    ),
                ),
                ("deadline", models.DateTimeField(blank=True, null=True)),
                ("cancel_requested_at", models.DateTimeField(blank=True, null=True)),
                ("error_code", models.CharField(blank=True, max_length=32)),
                ("error_message", models.TextField(blank=True)),
                ("error_traceback", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("updated_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "purged_at",
                    models.DateTimeField(blank=True, help_text="When its images were purged.", null=True),
                ),
                ("timings", models.JSONField(blank=True, default=dict, help_text="Seconds by stage.")),
                (
                    "provenance",
                    models.JSONField(
                        blank=True,
                        db_default=models.Value({}, models.JSONField()),
                        default=dict,
                        help_text="Device, dtype and library versions, on which the images also depend.",
                    ),
                ),
                (
                    "webhook_url",
                    models.TextField(blank=True, help_text="Receiver that is notified when the task ends."),
                ),
                (
                    "webhook_events",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=16), blank=True, default=list, size=None
                    ),
                ),
                (
                    "webhook_due",
                    models.BooleanField(
                        default=False, help_text="The task has ended, and its delivery is not created yet."
                    ),
                ),
                (
                    "reproduction",
                    models.JSONField(
                        blank=True, help_text="Comparison with the images of the original task.", null=True
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        help_text="The API key of the request.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="tasks",
                        to=settings.KNOX_TOKEN_MODEL,
                    ),
                ),
                (
                    "reproduces",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        help_text="The task whose images this one should reproduce.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="reproductions",
                        to="tasks_app.task",
                    ),
                ),
                (
                    "retried_from",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="retries",
                        to="tasks_app.task",
                    ),
                ),
            ],
            options={
                "ordering": ("-created_at", "-id"),
            },
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255)),
                ("body_sha256", models.CharField(max_length=64)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True),
                ),
                (
                    "key",
                    models.ForeignKey(
                        help_text="Empty for callers without a key.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        to=settings.KNOX_TOKEN_MODEL,
                    ),
                ),
                ("task", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="tasks_app.task")),
            ],
        ),
        migrations.CreateModel(
            name="TaskAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("worker", models.CharField(max_length=255)),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("canceled", "Canceled"),
                            ("released", "Released"),
                            ("lost", "Lost"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="attempts", to="tasks_app.task"
                    ),
                ),
            ],
            options={
                "ordering": ("number",),
            },
        ),
        migrations.CreateModel(
            name="TaskImage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("index", models.PositiveSmallIntegerField()),
                ("attempt", models.PositiveIntegerField(help_text="The attempt that generated it.")),
                ("file", models.FileField(max_length=255, upload_to="")),
                ("content_type", models.CharField(default="image/png", max_length=32)),
                ("seed", models.BigIntegerField()),
                ("width", models.PositiveIntegerField()),
                ("height", models.PositiveIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                (
                    "flagged",
                    models.BooleanField(default=False, help_text="The model's safety checker replaced this image."),
                ),
                (
                    "black",
                    models.BooleanField(default=False, help_text="All pixels are black, as after a numeric overflow."),
                ),
                (
                    "purged_at",
                    models.DateTimeField(blank=True, help_text="When its file was deleted.", null=True),
                ),
                (
                    "task",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="images", to="tasks_app.task"
                    ),
                ),
            ],
            options={
                "ordering": ("index",),
            },
        ),
        migrations.CreateModel(
            name="Upload",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("sha256", models.CharField(help_text="Of the stored PNG.", max_length=64)),
                ("width", models.PositiveIntegerField()),
                ("height", models.PositiveIntegerField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "purged_at",
                    models.DateTimeField(blank=True, help_text="When it expired; its file is deleted next.", null=True),
                ),
                (
                    "key",
                    models.ForeignKey(
                        blank=True,
                        help_text="The API key of the request.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="uploads",
                        to=settings.KNOX_TOKEN_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="task",
            name="uploads",
            field=models.ManyToManyField(
                blank=True, help_text="Input images.", related_name="tasks", to="tasks_app.upload"
            ),
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4,
                        editable=False,
                        help_text="The same in every attempt.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "event",
                    models.CharField(
                        choices=[("succeeded", "Succeeded"), ("failed", "Failed"), ("canceled", "Canceled")],
                        max_length=16,
                    ),
                ),
                ("url", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("sending", "Sending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                (
                    "attempts",
                    models.PositiveSmallIntegerField(default=0, help_text="Since the delivery was last requested."),
                ),
                (
                    "next_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it is sent next, or, while it is being sent, when that attempt counts as lost.",
                    ),
                ),
                (
                    "last_status",
                    models.PositiveSmallIntegerField(blank=True, help_text="HTTP status of the receiver.", null=True),
                ),
                ("last_error", models.TextField(blank=True)),
                ("last_at", models.DateTimeField(blank=True, help_text="When it was last sent.", null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "task",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="tasks_app.task"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "webhook deliveries",
                "ordering": ("-created_at", "-id"),
            },
        ),
        migrations.CreateModel(
            name="WorkerCommand",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=[("preload", "Preload"), ("unload", "Unload")], max_length=16)),
                ("model_id", models.CharField(max_length=255)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("taken_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("error", models.TextField(blank=True)),
                (
                    "by",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "worker",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="commands", to="tasks_app.worker"
                    ),
                ),
            ],
            options={
                "ordering": ("-created_at", "-pk"),
            },
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.UniqueConstraint(fields=("user", "name"), name="api_key_name_unique"),
        ),
        migrations.AddConstraint(
            model_name="chosenmodel",
            constraint=models.UniqueConstraint(fields=("key",), name="chosen_model_unique", nulls_distinct=False),
        ),
        migrations.AddConstraint(
            model_name="pause",
            constraint=models.UniqueConstraint(fields=("scope", "target"), name="pause_unique"),
        ),
        migrations.AddConstraint(
            model_name="pause",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("scope", "queue"), ("target", "")),
                    models.Q(("scope__in", ["model", "worker"]), models.Q(("target", ""), _negated=True)),
                    _connector="OR",
                ),
                name="pause_target_fits_scope",
            ),
        ),
        migrations.AddConstraint(
            model_name="idempotencykey",
            constraint=models.UniqueConstraint(
                fields=("key", "name"), name="idempotency_key_unique", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            model_name="taskattempt",
            constraint=models.UniqueConstraint(fields=("task", "number"), name="task_attempt_number_unique"),
        ),
        migrations.AddConstraint(
            model_name="taskattempt",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("ended_at__isnull", True), ("outcome", "")),
                    models.Q(models.Q(("outcome", ""), _negated=True), ("ended_at__isnull", False)),
                    _connector="OR",
                ),
                name="task_attempt_outcome_when_ended",
            ),
        ),
        migrations.AddConstraint(
            model_name="taskimage",
            constraint=models.UniqueConstraint(fields=("task", "index"), name="task_image_index_unique"),
        ),
        migrations.AddIndex(
            model_name="upload",
            index=models.Index(
                condition=models.Q(("purged_at__isnull", True)), fields=["created_at"], name="upload_kept"
            ),
        ),
        migrations.AddIndex(
            model_name="upload",
            index=models.Index(
                condition=models.Q(("purged_at__isnull", False)), fields=["purged_at"], name="upload_given_up"
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.OrderBy(models.F("priority"), descending=True),
                models.F("created_at"),
                models.F("id"),
                condition=models.Q(("status", "queued")),
                name="task_claim",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce(
                    models.F("key"), 0, output_field=models.BigIntegerField()
                ),
                models.F("model_id"),
                models.F("revision"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("created_at"),
                models.F("id"),
                condition=models.Q(("status", "queued")),
                name="task_lane",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("batch_key"),
                django.db.models.functions.comparison.Coalesce(
                    models.F("key"), 0, output_field=models.BigIntegerField()
                ),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("created_at"),
                models.F("id"),
                condition=models.Q(("status", "queued"), models.Q(("batch_key", ""), _negated=True)),
                name="task_batch",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                django.db.models.functions.comparison.Coalesce(
                    models.F("key"), 0, output_field=models.BigIntegerField()
                ),
                models.OrderBy(models.F("started_at"), descending=True),
                condition=models.Q(("started_at__isnull", False)),
                name="task_served",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(condition=models.Q(("status", "running")), fields=["id"], name="task_running"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(
                    models.Q(("status__in", ("succeeded", "failed", "canceled")), _negated=True),
                    ("deadline__isnull", False),
                ),
                fields=["deadline"],
                name="task_deadline",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="task_newest",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("status"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="task_newest_of_status",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("model_id"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="task_newest_of_model",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("worker"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="task_newest_of_worker",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("key"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="task_newest_of_key",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("status__in", ("succeeded", "failed", "canceled")), _negated=True),
                fields=["key", "status"],
                name="task_open_of_key",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("error_code"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("error_code", ""), _negated=True),
                name="task_newest_of_error",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.OrderBy(models.F("finished_at"), descending=True),
                condition=models.Q(("status__in", ("succeeded", "failed", "canceled"))),
                name="task_finished",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                models.F("status"),
                models.OrderBy(models.F("finished_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("status__in", ("succeeded", "failed", "canceled")), ("purged_at__isnull", True)),
                name="task_kept",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("status__in", ("succeeded", "failed", "canceled")), ("webhook_due", True)),
                fields=["finished_at"],
                name="task_webhook_due",
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(
                condition=models.Q(("reproduces__isnull", False)), fields=["reproduces"], name="task_reproduces"
            ),
        ),
        migrations.AddIndex(
            model_name="task",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.search.SearchVector(
                    django.db.models.fields.json.KeyTextTransform("prompt", "params"), config="simple"
                ),
                name="task_prompt_words",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["queued", "running", "succeeded", "failed", "canceled"])),
                name="task_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("phase__in", ["", "loading", "denoising", "decoding", "saving"])),
                name="task_phase_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("status", "running"),
                        ("lease_until__isnull", False),
                        models.Q(("worker", ""), _negated=True),
                        models.Q(("phase", ""), _negated=True),
                    ),
                    models.Q(
                        models.Q(("status", "running"), _negated=True), ("lease_until__isnull", True), ("phase", "")
                    ),
                    _connector="OR",
                ),
                name="task_leased_while_running",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ("succeeded", "failed", "canceled")), ("finished_at__isnull", False)),
                    models.Q(
                        models.Q(("status__in", ("succeeded", "failed", "canceled")), _negated=True),
                        ("finished_at__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="task_finished_when_ended",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status__in", ["failed", "canceled"]), models.Q(("error_code", ""), _negated=True)),
                    models.Q(models.Q(("status__in", ["failed", "canceled"]), _negated=True), ("error_code", "")),
                    _connector="OR",
                ),
                name="task_error_when_failed",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("step__lte", models.F("total_steps"))), name="task_step_in_range"
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("losses__lte", models.F("attempt"))), name="task_losses_in_range"
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("max_attempts__gte", 1)), name="task_max_attempts_positive"
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority__gte", -10), ("priority__lte", 10)), name="task_priority_in_range"
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("webhook_due", False), models.Q(("webhook_url", ""), _negated=True), _connector="OR"
                ),
                name="task_webhook_has_url",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("seed__gte", 0), ("seed__lt", 4294967296)), name="task_seed_in_range"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                condition=models.Q(("state__in", ["pending", "sending"])), fields=["next_at"], name="delivery_due"
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="delivery_newest",
            ),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(
                models.F("state"),
                models.OrderBy(models.F("created_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                name="delivery_newest_of_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.UniqueConstraint(fields=("task", "event"), name="delivery_unique"),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["pending", "sending", "delivered", "failed"])),
                name="delivery_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("event__in", ["succeeded", "failed", "canceled"])), name="delivery_event_known"
            ),
        ),
        migrations.AddIndex(
            model_name="workercommand",
            index=models.Index(
                condition=models.Q(("taken_at", None)), fields=["worker", "id"], name="worker_command_open"
            ),
        ),
    ]
