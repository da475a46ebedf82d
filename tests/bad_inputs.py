"""Bad inputs, one a line: the command line, and after ``=>`` a word that the complaint must have.

Variables may stand before the command. ``{name}`` is a file or folder that `bad_files.py` makes. Every one ends with
exit code 2, or with 3 where the line begins with ``3:``, and leaves nothing behind.
"""

from __future__ import annotations

COMMANDS = """
atack hsja => attack
attack => name
attack hsja extra => extra
attack hsjaa => hsja
attack HSJA => hsja
attack hsja,nosuch => nosuch
attack '' => NAME
attack --help-me => --help-me
--nosuch => --nosuch
sweep hsja => sweep
report => files
reproduce => table
ls => what
ls attack => attacks
ls attacks defenses => defenses
ls everything => models
doctor now => now
doctor --device gpu => gpu
doctor --device cuda:99 => cuda:99
doctor --device cpu:x => cpu:x
train resnet21 => resnet20
train resnet20 resnet32 => resnet32
reproduce table9 => table8
reproduce table1,table2 => table1
sigma-sweep => name
adaptive => name
evidence hsja => hsja
accuracy hsja => hsja
"""

NUMBERS = """
attack hsja --budget 0 => --budget
attack hsja --budget=-5 => --budget
attack hsja --budget many => many
attack hsja --budget 1.5 => 1.5
attack hsja --budget '' => --budget
attack hsja --budget 10kk => 10kk
attack hsja --budget 2kx => 2kx
attack hsja --budget 2kx0 => --budget
attack hsja --budget nan => nan
attack hsja --budget inf => inf
attack hsja --budget 99999999999999999999 => --budget
attack hsja --budgets 1,a => a
attack hsja --budgets 0 => --budgets
attack hsja --budgets=-5 => --budgets
attack hsja --budgets , => --budgets
attack hsja --budgets 1,,2 => --budgets
attack hsja --budgets 50 --budget 20 => --budgets
attack hsja --eps 0 => --eps
attack hsja --eps=-1 => --eps
attack hsja --eps inf => --eps
attack hsja --eps nan => --eps
attack hsja --eps 1,inf => --eps
attack hsja --eps 1/0 => 1/0
attack hsja --eps 8/ => 8/
attack hsja --eps a => --eps
attack hsja --eps 1;2 => 1;2
attack hsja --eps , => --eps
attack hsja --eps 1,,2 => --eps
attack hsja --sigma=-0.01 => --sigma
attack hsja --sigma nan => --sigma
attack hsja --sigma inf => --sigma
attack hsja --sigma a => --sigma
attack hsja --sigma 0.01 --beta 0 => --beta
attack hsja --sigma 0.01 --beta=-1 => --beta
attack hsja --sigma 0.01 --beta nan => --beta
attack hsja --sigma 0.01 --beta inf => --beta
attack hsja --beta 2 => --beta
attack hsja --images 0 => --images
attack hsja --images=-3 => --images
attack hsja --images a => --images
attack hsja --images 1.5 => --images
attack hsja --images 5000 --model py:bad_models:tiny => --images
attack hsja --images 99999999999999999999 => --images
attack hsja --verify 0 => --verify
attack hsja --verify=-1 => --verify
attack hsja --verify 99999999999 => --verify
attack hsja --unit 0 => --unit
attack hsja --unit=-1 => --unit
attack hsja --repeats 0 => --repeats
attack hsja --repeats 99999999999 => --repeats
attack hsja --seed=-1 => --seed
attack hsja --seed 9223372036854775808 => --seed
attack hsja --seed 9223372036854775807 --repeats 2 => --seed
attack hsja --seed 0.5 => --seed
attack hsja --seed a => --seed
attack hsja --batch-size 0 => --batch-size
attack hsja --batch-size=-8 => --batch-size
attack hsja --batch-size big => big
attack hsja --batch-size 99999999999 => --batch
attack hsja --workers 0 => --workers
attack hsja --workers=-2 => --workers
attack hsja --workers many => many
attack hsja --workers 99999 => --workers
attack hsja --workers '' => --workers
accuracy --workers 1.5 => --workers
sigma-sweep hsja --workers x => --workers
adaptive hsja --workers x => --workers
reproduce table1 --workers x => --workers
attack hsja --shard 0/4 => --shard
attack hsja --shard 5/4 => --shard
attack hsja --shard 1 => --shard
attack hsja --shard 1/0 => --shard
attack hsja --shard a/b => --shard
attack hsja --shard auto => SLURM_ARRAY_TASK_ID
attack hsja --shard 1/2 --fresh --model py:bad_models:tiny => --fresh
adaptive hsja --shard 2/1 => --shard
sigma-sweep hsja --shard 2/1 => --shard
attack hsja --executor dask => dask
attack hsja --executor process --address auto => --address
accuracy --executor x => --executor
reproduce table1 --within soon => soon
reproduce table1 --within 0h => --within
reproduce table1 --within 8 => --within
reproduce table1 --within '' => --within
merge {folder}/nowhere => nowhere
merge {pq:text} => folder
status {folder}/nowhere => nowhere
merge => DIR
status => DIR
adaptive hsja --votes 0 => --votes
adaptive hsja --votes=-1 => --votes
adaptive hsja --votes 99999999999 => --votes
adaptive hsja --votes a => --votes
adaptive hsja --votes 10 --budget 5 => 10
adaptive hsja --ladder --sigma-hat x => sigma
adaptive hsja --ladder --sigma-hat nan => sigma
adaptive hsja --ladder --sigma-hat=-1 => sigma
adaptive hsja --per-vote-budget --budget 2147483647 => budget
sigma-sweep hsja --sigmas a,b => a,b
sigma-sweep hsja --sigmas=-1 => --sigma
sigma-sweep hsja --sigmas nan => --sigma
sigma-sweep hsja --sigmas '' => --sigmas
sigma-sweep hsja --sigmas 0,,1 => --sigmas
sigma-sweep hsja --betas none,x => x
sigma-sweep hsja --betas 0 => --beta
sigma-sweep hsja --accuracy-repeats 0 => --accuracy-repeats
sigma-sweep hsja --max-drop=-5 => --max-drop
sigma-sweep hsja --max-drop nan => --max-drop
sigma-sweep hsja --max-drop 101 => --max-drop
sigma-sweep hsja --max-drop inf => --max-drop
accuracy --repeats 0 => --repeats
accuracy --repeats a => --repeats
accuracy --seed=-1 => --seed
accuracy --seed 9223372036854775807 --sigma 0.01 => --seed
accuracy --sigma x => --sigma
accuracy --sigma nan => --sigma
accuracy --sigma=-1 => --sigma
accuracy --beta 1 => --beta
accuracy --pgd x => x
accuracy --pgd linf:8/255 => linf:8/255
accuracy --pgd linf:0:7 => PGD
accuracy --pgd l1:1:7 => l1
accuracy --pgd l2:nan:7 => nan
accuracy --pgd l2:inf:7 => inf
accuracy --pgd l2:1:0 => PGD
accuracy --pgd l2:1:1.5 => 1.5
accuracy --pgd l2:1:7:-1 => PGD
accuracy --pgd l2:1/0:7 => 1/0
accuracy --pgd l2:1:7 --pgd-images 0 => --pgd-images
accuracy --batch-size 0 => --batch-size
evidence --sigmas a => a
evidence --sigmas 0 => --sigmas
evidence --sigmas nan => --sigmas
evidence --sigmas=-1 => --sigmas
evidence --probes 0 => --probes
evidence --probes a,1 => --probes
evidence --queries 0 => --queries
evidence --draws 1 => --draws
evidence --images 0 => --images
evidence --images 5000 --model py:bad_models:tiny => 5000
evidence --noise-images 0 => --noise-images
evidence --eps 0 => --eps
evidence --eps nan => --eps
evidence --eps inf => --eps
evidence --seed=-1 => --seed
evidence --out a.csv => a.csv
train --epochs 0 => --epochs
train --epochs=-1 => --epochs
train --lr 0 => --lr
train --lr nan => --lr
train --lr 11 => --lr
train --seed=-1 => --seed
train --pgd-images=-1 => --pgd-images
train --pgd-steps 0 --defense at => --pgd-steps
train --pgd x --defense at => x
train --pgd l2:0.5:0 --defense at => PGD
train --pgd l2:nan:7 --defense at => nan
reproduce table1 --images 0 => --images
reproduce table1 --budget 0 => --budget
reproduce table1 --budget x => --budget
reproduce table1 --verify 0 => --verify
reproduce table1 --seed=-1 => --seed
reproduce table1 --batch-size 0 => --batch-size
"""

CHOICES = """
attack hsja --norm l1 => l1
attack hsja --norm L2 => l2
attack ba --norm linf => --norm
attack hsja --engine nat => native
attack null --engine foolbox => hsja
attack hsja --engine foolbox --set gamma=2 => foolbox
attack hsja --engine foolbox --preset art => foolbox
attack hsja --preset arts => art
attack hsja --preset '' => preset
attack hsja --select right => correct
attack hsja --select all --select-by resnet20 => --select-by
attack hsja --select-by resnet2 => resnet20
attack hsja --precision fp16 => fp32
attack hsja --device tpu => tpu
attack hsja --device cuda:99 => cuda:99
attack hsja --device '' => --device
attack hsja --reference ref-vgg => --reference
attack subspace --reference ref-vg => ref-vgg
attack subspace --dataset folder:{pictures} => --reference
attack hsja --format json => --format
attack hsja --quantise => --quantize
attack hsja --bugdet 3 => --budget
attack hsja --budget => --budget
attack hsja --json=maybe => --json
adaptive hsja --ladder --engine foolbox => native
adaptive hsja --ladder --out a.parquet => --out
sigma-sweep hsja --out a.parquet => --out
sigma-sweep hsja --plot a.gif => a.gif
sigma-sweep hsja --plot {good}/y.svg --sigmas 0 => good.parquet
sigma-sweep hsja --sigma 0.1 => --sigma
sigma-sweep hsja --defense rnp --sigmas 0.01 => rnp
train --split test => proxy
train --preset papr => paper
train --defense snd => rse
train --defense rse --split proxy => proxy
train --precision fp8 => fp32
train --at-norm l2 => --at-norm
train --at-norm l1 --defense at => l1
train --pgd-steps 3 => --pgd-steps
train --pgd l2:0.5:7 --pgd-steps 3 --defense at => --pgd
train --pixel-units => --pixel-units
train => --data-dir
train --data-dir {folder} => CIFAR-10
reproduce table1 --format html => md
reproduce table1 --out a.parquet => --out
reproduce table1 --where attack => --where
reproduce table1 --where atack=hsja => attack
reproduce table1 --where attack=nosuch => nosuch
accuracy --compile --pgd l2:0.5:7 => --compile
accuracy --precision fp8 => fp32
report {good} --format xml => md
report {good} --interval bayes => wilson
report {good} --kind bars => queries
report {good} --plot a.jpg => a.jpg
report {good} --plot a => .svg
report {good} --plot {folder} => .svg
report {good} --html {folder} => Is a directory
report {good} --out a.parquet => --out
report {good} --format parquet => --out
report {good} --format parquet --out {folder} => Is a directory
report {good} --html {good}/x/a.html => good.parquet
report {good} --html {long} => too long
report {good} --plot {long}.svg => too long
report {good} --at a => a
report {good} --at 0 => --at
report {good} --at=-1 => --at
report {good} --at 1,,2 => --at
report {good} --at 99999 => 99,999
report {good} --eps 0 => --eps
report {good} --eps=-1 => --eps
report {good} --eps nan => --eps
report {good} --eps inf => --eps
report {good} --eps 8/x => --eps
report {good} --kind gallery --plot {folder}/g.svg => points
"""

SETTINGS = """
attack hsja --set gamma => gamma
attack hsja --set gama=2 => gamma
attack hsja --set =2 => key
attack hsja --set '' => --set
attack hsja --set gamma= => gamma
attack hsja --set gamma=x => gamma
attack hsja --set gamma=nan => gamma
attack hsja --set gamma=inf => gamma
attack hsja --set gamma=0 => gamma
attack hsja --set gamma=-1 => gamma
attack hsja --set iterations=-3 => iterations
attack hsja --set iterations=0.5 => iterations
attack hsja --set iterations=1.5 => iterations
attack hsja --set iterations=99999999999999999999 => iterations
attack hsja --set projected=maybe => projected
attack hsja --set floor=-1 => floor
attack hsja --set power=nan => power
attack hsja --set start_draws=0 => start_draws
attack hsja --set first_radius=0 => first_radius
attack hsja --set gamma=1,2 => gamma
attack hsja-na --set sigma_hat=x => sigma_hat
attack hsja-na --set sigma_hat=-1 => sigma_hat
attack hsja-na --set sigma_hat=nan => sigma_hat
attack hsja-na --set votes=2 => odd
attack hsja-na --set votes=-1 => votes
attack hsja-na --set votes=99999 => votes
attack hsja-na --set colour=2 => colour
attack hsja-na --set grid=0 => grid
attack hsja-na --set window=-1 => window
attack ba --set steps=0 => steps
attack ba --set adaptation=1 => adaptation
attack ba --set adaptation=0 => adaptation
attack ba --set spherical_step=-1 => spherical_step
attack ba --preset art --set delta=0 => delta
attack ba --preset art --set steps=3 => steps
attack ba --preset art --set step_adapt=2 => step_adapt
attack sign-opt --set alpha=0 => alpha
attack sign-opt --set directions=0 => directions
attack sign-opt --set limit=inf => limit
attack geoda --set sub_dim=100000 => sub_dim
attack geoda --set allocation=0 => allocation
attack geoda --set probe=-1 => probe
attack rays --set tolerance=0 => tolerance
attack rays --set votes=4 => odd
attack popskipjump --set max_share=0 => max_share
attack popskipjump --set max_share=2 => max_share
attack popskipjump --set grid=0 => grid
attack popskipjump --set start_votes=2 => odd
attack simba --set epsilon=0 => epsilon
attack simba --set basis=fourier => basis
attack simba --set order=random => order
attack simba --set freq_dims=-1 => freq_dims
attack simba --set draws=0 => draws
attack bandit-td --set tiles=-1 => tiles
attack bandit-td --set tiles=100000 => tiles
attack bandit-td --set fd_eta=0 => fd_eta
attack subspace --set max_drop=1 => max_drop
attack subspace --set drop_gamma=nan => drop_gamma
attack square --set p_init=0 => p_init
attack square --set p_init=2 => p_init
attack nes --set loss=hinge => loss
attack nes --set momentum=1 => momentum
attack nes --set pairs=0 => pairs
attack null --set anything=1 => anything
adaptive hsja --set gamma=nan => gamma
sigma-sweep hsja --set gamma=nan => gamma
"""

MODELS = """
attack hsja --model '' => --model
attack hsja --model resnet2 => resnet20
attack hsja --model resnet20-rse => --defense
attack hsja --model {pt:empty} => file:
attack hsja --model file: => file:
attack hsja --model file:{pt:empty} => arch
attack hsja --model file:{pt:empty}?arch= => arch
attack hsja --model file:{pt:empty}?arch=resnet21 => resnet20
attack hsja --model file:{pt:empty}?arch=resnet20 => empty.pt
attack hsja --model file:{pt:text}?arch=resnet20 => text.pt
attack hsja --model file:{pt:evil}?arch=resnet20 => evil.pt
attack hsja --model file:{pt:list}?arch=resnet20 => list.pt
attack hsja --model file:{pt:other}?arch=resnet20 => other.pt
attack hsja --model file:{pt:shapes}?arch=resnet20 => shape
attack hsja --model file:{pt:nan}?arch=resnet20 => NaN
attack hsja --model file:{pt:none}?arch=resnet20 => missing
attack hsja --model file:{pt:number}?arch=resnet20 => number.pt
attack hsja --model file:{pt:missing}?arch=resnet20 => missing.pt
attack hsja --model file:{folder}?arch=resnet20 => Checkpoint
attack hsja --model file:{st:empty}?arch=resnet20 => empty.safetensors
attack hsja --model file:{st:text}?arch=resnet20 => text.safetensors
attack hsja --model file:{st:long}?arch=resnet20 => long.safetensors
attack hsja --model file:{st:list}?arch=resnet20 => list.safetensors
attack hsja --model file:{st:latin}?arch=resnet20 => latin.safetensors
attack hsja --model file:{long}?arch=resnet20 => x
attack hsja --model file:{pt:good}?arch=resnet20&nosuch=1 => nosuch
attack hsja --model file:{pt:good}?arch=resnet20&size=100000 => size
attack hsja --model file:{pt:good}?arch=resnet20&size=0 => size
attack hsja --model file:{pt:good}?arch=resnet20&size=-1 => size
attack hsja --model file:{pt:good}?arch=resnet20&size=a => size
attack hsja --model file:{pt:good}?arch=resnet20&size=32&resize=16 => resize
attack hsja --model file:{pt:good}?arch=resnet20&size=32&resize=100000 => resize
attack hsja --model file:{pt:good}?arch=resnet20&size=32&interpolation=cubic => bicubic
attack hsja --model file:{pt:good}?arch=resnet20&mean=0.5 => std
attack hsja --model file:{pt:good}?arch=resnet20&mean=0.5&std=0 => std
attack hsja --model file:{pt:good}?arch=resnet20&mean=0.5&std=-1 => std
attack hsja --model file:{pt:good}?arch=resnet20&mean=0.5&std=inf => std
attack hsja --model file:{pt:good}?arch=resnet20&mean=0.5&std=nan => std
attack hsja --model file:{pt:good}?arch=resnet20&mean=inf&std=1 => mean
attack hsja --model file:{pt:good}?arch=resnet20&mean=a&std=1 => mean
attack hsja --model file:{pt:good}?arch=resnet20&mean=1,2&std=1,2 => 2
attack hsja --model file:{pt:good}?arch=resnet20&mean=1/0&std=1 => mean
attack hsja --model file:{pt:good}?arch=resnet20&norm=cifar => cifar10
attack hsja --model file:{pt:good}?arch=resnet20&classes=5 => classes
attack hsja --model file:{pt:good}?arch=resnet20&format=onnx => format
attack hsja --model file:{pt:good}?arch=resnet20&format=robustness => good.pt
attack hsja --model file:{pt:good}?arch=resnet18&classes=1 => classes
attack hsja --model file:{pt:good}?arch=resnet18&classes=99999999999 => classes
attack hsja --model file:{pt:good}?arch=resnet20&unsafe=maybe => unsafe
attack hsja --model torchvision: => torchvision
attack hsja --model torchvision:resnet1 => resnet18
attack hsja --model torchvision:resnet18/nosuch => random
attack hsja --model torchvision:resnet18/random => 224
attack hsja --model torchvision:resnet18/random?size=100000 => size
attack hsja --model torchvision:resnet18/random?siz=32 => size
attack hsja --model timm: => timm
attack hsja --model timm:nosuchmodel/random => nosuchmodel
attack hsja --model py: => py:
attack hsja --model py:os => py:
attack hsja --model py:nosuch:model => nosuch
attack hsja --model py:os:nosuch => nosuch
attack hsja --model py:os:getcwd => str
attack hsja --model py:os:sep => callable
attack hsja --model py:os.path:join => join
attack hsja --model py::x => py:
attack hsja --model py:..x:y => py:
attack hsja --model py:bad_models:broken => broken
attack hsja --model py:bad_models:exits => exits
attack hsja --model py:bad_models:needs => needs
attack hsja --model py:bad_models:flat => logits
attack hsja --model py:bad_models:nan => NaN
attack hsja --model py:bad_models:raises => raises
attack hsja --model py:bad_models:few => classes
attack hsja --model py:bad_syntax:model => bad_syntax
attack hsja --model py:bad_import:model => bad_import
accuracy --model nosuch => nosuch
accuracy --model file:{pt:empty}?arch=resnet20 => empty.pt
evidence --model nosuch => nosuch
reproduce table1 --model nosuch => nosuch
adaptive hsja --model nosuch => nosuch
sigma-sweep hsja --model nosuch => nosuch
"""

DEFENSES = """
attack hsja --defense '' => defense
attack hsja --defense sdn => snd
attack hsja --defense snd+ => defense
attack hsja --defense +snd => defense
attack hsja --defense snd+snd => snd
attack hsja --defense none+snd => none
attack hsja --defense none --sigma 0.1 => none
attack hsja --defense rnp --sigma 0.1 => rnp
attack hsja --defense snd+rse => rse
attack hsja --defense rse+pni => pni
attack hsja --defense rnp --clip => --clip
attack hsja --clip => --clip
attack hsja --defense rse --defense-weights nosuch => nosuch
attack hsja --defense rse --defense-weights file:{pt:empty} => empty.pt
attack hsja --defense rse --defense-weights file:{st:empty} => empty.safetensors
attack hsja --defense rse --defense-weights file:{st:text} => text.safetensors
attack hsja --defense rse --defense-weights file:{pt:missing} => missing.pt
attack hsja --defense rse --defense-weights resnet20-pni => rse
attack hsja --defense rse --defense-weights resnet20 => resnet20
attack hsja --defense rse --defense-weights '' => --defense-weights
attack hsja --defense snd --defense-weights resnet20-rse => --defense-weights
attack hsja --defense-weights resnet20-rse => --defense-weights
attack hsja --defense snd:sigma=0.1 => snd
accuracy --defense sdn => snd
accuracy --defense none --sigma 0.1 => none
sigma-sweep hsja --defense sdn => snd
"""

DATA = """
attack hsja --dataset '' => --dataset
attack hsja --dataset cifar => cifar10
attack hsja --dataset cifar100 => cifar10
attack hsja --dataset folder => folder:DIR
attack hsja --dataset imagenet => SND_DATA
attack hsja --dataset imagenet --data-dir {folder}/no => no
attack hsja --dataset imagenet --data-dir {empty} => synset
attack hsja --dataset imagenet --data-dir {pictures} => synset
attack hsja --dataset imagenet --download => --data-dir
attack hsja --dataset folder:{folder}/no => no
attack hsja --dataset folder: => folder:
attack hsja --dataset folder:{good} => good.parquet
attack hsja --dataset folder:{empty} => pictures
attack hsja --dataset folder:{flat} => pictures
attack hsja --model py:bad_models:one --dataset folder:{broken} --select all => broken.png
attack hsja --model py:bad_models:one --dataset folder:{broken} --select all --skip-broken => --images
attack hsja --model py:bad_models:two --dataset folder:{pictures} --select all --images 99 => 99
attack hsja --dataset folder:{many} --select all => classes
attack hsja --dataset folder:{long} => too long
attack hsja --data-dir /nowhere => /nowhere
attack hsja --data-dir {good} => good.parquet
attack hsja --data-dir {empty} => CIFAR-10
attack hsja --data-dir {cifar:short} => test_batch.bin
attack hsja --data-dir {cifar:zero} => SHA-256
attack hsja --data-dir {cifar:pickle} => test_batch
attack hsja --data-dir {cifar:evil} => allowed
attack hsja --data-dir {cifar:list} => test_batch
attack hsja --data-dir {long} => too long
accuracy --data-dir /nowhere => /nowhere
accuracy --dataset cifar => cifar10
evidence --dataset cifar => cifar10
train --data-dir {cifar:short} => bin
train --data-dir /nowhere => /nowhere
reproduce table1 --data-dir /nowhere => /nowhere
SND_DATA=/nowhere attack hsja => /nowhere
SND_DATA=/nowhere accuracy => /nowhere
"""

OUTPUTS = """
attack null --out /proc/nowhere/a.parquet => /proc
attack null --out {good}/a.parquet => good.parquet
attack null --out {good} => another config
attack null --out {pq:text} => text.parquet
attack null --out {pq:folder} => is a folder
attack null --out {long} => too long
attack null --out {long}.parquet => too long
adaptive null --votes 1 --out {long} => too long
evidence --out {long}.parquet => too long
evidence --out {good}/a.parquet => good.parquet
evidence --plot a.gif => a.gif
evidence --plot /proc/nowhere/a.svg => /proc
sigma-sweep null --plot {long}.svg => too long
3:attack null --out {busy} => is being written by
3:attack null --fresh --out {busy} => is being written by
"""

RESULTS = """
report /nowhere.parquet => /nowhere.parquet
report {empty} => empty
report {folder}/no => no
report {pq:empty} => empty.parquet
report {pq:text} => text.parquet
report {pq:short} => short.parquet
report {pq:foreign} => schema
report {pq:version} => version 99
report {pq:config} => config
report {pq:json} => metadata
report {pq:latin} => metadata
report {pq:budget} => budget
report {pq:budget_negative} => budget
report {pq:eps_text} => eps
report {pq:eps_nan} => eps
report {pq:votes_zero} => votes
report {pq:attack_number} => attack
report {pq:defense_list} => defense
report {pq:id_missing} => id
report {pq:rows} => rows
report {pq:lacks} => p_adv
report {pq:type} => seed
report {pq:twice} => again
report {pq:points} => report points
report {pq:no_points} => report points
report {pq:p_adv_7} => p_adv
report {pq:p_adv_nan} => p_adv
report {pq:p_adv_negative} => p_adv
report {pq:p_adv_submitted_2} => p_adv_submitted
report {pq:p0_2} => p0
report {pq:p0_nan} => p0
report {pq:p_mis_clean_negative} => p_mis_clean
report {pq:best_negative} => distance_best
report {pq:best_nan} => distance_best
report {pq:last_negative} => distance_last
report {pq:submitted_nan} => distance_submitted
report {pq:boundary_negative} => distance_boundary
report {pq:queries_negative} => queries
report {pq:mismatches_negative} => mismatches
report {pq:budgets_zero} => budgets
report {pq:seed_negative} => seed
report {pq:image_negative} => image_id
report {pq:event_query_zero} --plot {folder}/e.svg => event_query
report {pq:event_distance_nan} --plot {folder}/e.svg => event_distance
report {good} {pq:text} --strict => text.parquet
report {good} --baseline /nowhere.parquet => /nowhere.parquet
report {good} --baseline {pq:text} => text.parquet
report {good} --baseline => --baseline
report {good} --baseline {pq:p_adv_7} => p_adv
report {good} --where attack => --where
report {good} --where atack=null => attack
report {good} --where =null => --where
report {good} --where attack=nosuch => nosuch
report {good} --where budget=7 => budget
report {good} --where '' => --where
report {good} --where sigma=abc => abc
report {good} --where run_id=1 => run
report {good} --fail-if '' => --fail-if
report {good} --fail-if success_seen => --fail-if
report {good} --fail-if 'success_seen >' => --fail-if
report {good} --fail-if '> 0.5' => --fail-if
report {good} --fail-if 'success > 0.5' => success
report {good} --fail-if 'succes_seen > 0.5' => success_seen
report {good} --fail-if 'success_seen > x' => x
report {good} --fail-if 'success_seen > nan' => nan
report {good} --fail-if 'success_seen > 2' => 2
report {good} --fail-if 'success_seen > -1' => -1
report {good} --fail-if 'success_seen > inf' => inf
report {good} --fail-if 'success_seen > 200%' => 200%
report {good} --fail-if 'success_seen == 0.5' => --fail-if
report {good} --fail-if 'success_seen >> 0.5' => --fail-if
report {good} --fail-if 'success_seen => 0.5' => --fail-if
report {good} --fail-if 'success_seen@x > 0.5' => x
report {good} --fail-if 'success_seen@0 > 0.5' => 0
report {good} --fail-if 'success_seen@999 > 0.5' => 999
report {good} --fail-if 'success_seen.mid > 0.5' => mid
report {good} --fail-if 'distance_best.lo > 0.5' => distance_best
report {good} --fail-if 'queries_mean > 5%' => %
report {good} --fail-if 'p_mis > 0.5' => p_mis
report {good} --fail-if 'success_seen > 0.5; rm -rf' => --fail-if
report {good} --fail-if '__import__("os") > 0' => --fail-if
report {good} --fail-if 'success_seen > 1e999' => 1e999
report {pq:text} {pq:empty} => text.parquet
"""

VARIABLES = """
SND_IMAGES=x attack hsja => SND_IMAGES
SND_IMAGES=0 attack hsja => --images
SND_SIGMA=nan attack hsja => --sigma
SND_SIGMA=x attack hsja => --sigma
SND_SIGMA=0,-1 attack hsja => --sigma
SND_SIGMA=x accuracy => SND_SIGMA
SND_BUDGET=many attack hsja => many
SND_BUDGET=0 attack hsja => --budget
SND_JSON=maybe ls attacks => SND_JSON
SND_QUIET=2 ls attacks => SND_QUIET
SND_SEED=-1 attack hsja => --seed
SND_SEED=x accuracy => SND_SEED
SND_EPS=inf attack hsja => --eps
SND_SET=gamma=nan attack hsja => gamma
SND_SET=gamma attack hsja => gamma
SND_WHERE=atack=null report {good} => attack
SND_FAIL_IF=success>2 report {good} => success
SND_FORMAT=xml report {good} => xml
SND_KIND=bars report {good} => bars
SND_MODEL=nosuch attack hsja => nosuch
SND_DEFENSE=sdn attack hsja => snd
SND_DEVICE=tpu attack hsja => tpu
SND_VOTES=0 adaptive hsja => --votes
SND_MAX_DROP=-5 sigma-sweep hsja => --max-drop
SND_BOUNDARY=perhaps attack hsja => SND_BOUNDARY
SND_CONFIG=/nowhere.toml attack hsja => /nowhere.toml
SND_SIMGA=0.1 attack hsja => SND_SIGMA
SND_BUGDET=4 attack hsja => SND_BUDGET
SND_DATADIR=/x attack hsja => SND_DATA
SND_EPSS=1 ls attacks => SND_EPS
SND_EPOCHS=0 train => --epochs
"""

CONFIGS = """
attack hsja --config /nowhere.toml => /nowhere.toml
attack hsja --config {folder} => Is a directory
attack hsja --config {long} => too long
attack hsja --config {toml:text} => text.toml
attack hsja --config {toml:latin} => latin.toml
attack hsja --config {toml:twice} => twice.toml
attack hsja --config {toml:typo} => budget
attack hsja --config {toml:table_typo} => sigma
attack hsja --config {toml:command_typo} => attack
attack hsja --config {toml:not_its} => votes
attack hsja --config {toml:config} => config
attack hsja --config {toml:date} => seed
attack hsja --config {toml:nested} => images
attack hsja --config {toml:images_text} => --images
attack hsja --config {toml:images_true} => --images
attack hsja --config {toml:images_half} => --images
attack hsja --config {toml:images_list} => --images
attack hsja --config {toml:images_negative} => --images
attack hsja --config {toml:sigma_nan} => --sigma
attack hsja --config {toml:sigma_list} => --sigma
attack hsja --config {toml:eps_inf} => --eps
attack hsja --config {toml:flag} => --quantize
attack hsja --config {toml:norm} => l1
attack hsja --config {toml:set_table} => gamma
attack hsja --config {toml:set_list} => gamma
attack hsja --config {toml:set_key} => gama
attack hsja --config {toml:budgets} => --budgets
attack hsja --config {toml:scalar} => attack
attack hsja --config {toml:other_table} => epochs
report {good} --config {toml:where} => attack
report {good} --config {toml:gate} => success
ls attacks --config {toml:typo} => budget
adaptive hsja --config {toml:votes} => --votes
sigma-sweep hsja --config {toml:drop} => --max-drop
train --config {toml:epochs} => --epochs
accuracy --config {toml:sigmas} => --sigma
evidence --config {toml:draws} => --draws
reproduce table1 --config {toml:verify} => --verify
doctor --config {toml:device} => gpu
"""

TABLES = {
    "commands": COMMANDS, "numbers": NUMBERS, "choices": CHOICES, "settings": SETTINGS, "models": MODELS,
    "defenses": DEFENSES, "data": DATA, "outputs": OUTPUTS, "results": RESULTS, "variables": VARIABLES,
    "configs": CONFIGS,
}  # fmt: skip


def lines() -> list[tuple[str, str]]:
    """(table, line) of all."""
    return [(name, line) for name, text in TABLES.items() for line in text.strip().splitlines()]
