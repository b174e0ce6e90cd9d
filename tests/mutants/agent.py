"""Bugs of the agent."""

from tests.mutants.mutant import Mutant, simulation, unit

AGENT = "operator/podcidr/agent"
AGENT_MUTANTS = (
    Mutant(
        "hold-what-no-watch-takes-back",
        "the agent keeps what a restored etcd does not know",
        f"{AGENT}/resync.py",
        "                await self._pods.confirm(self._pods_to_confirm(number))\n",
        "                pass\n",
        (unit("agent/test_resync.py"),),
    ),
    Mutant(
        "draining-stays-published",
        "the plugin goes on assigning from a Draining block",
        f"{AGENT}/allocation.py",
        """        if entry.draining:
            continue
""",
        "",
        (unit("agent/test_allocation.py"),),
    ),
    Mutant(
        "offer-before-the-pins",
        "new blocks are offered before a namespace is told that they are not for it",
        f"{AGENT}/publisher.py",
        """        self.files.restrict(self._document["pools"] if self._document else (), self._state_id)
""",
        "",
        (unit("agent/test_publisher.py"),),
    ),
    Mutant(
        "ready-is-for-ever",
        "a file `ready` that somebody removed is not missed",
        f"{AGENT}/publisher.py",
        """        if self.ready and self._state.read_ready() != self._state_id:
            self.ready = False
""",
        "",
        (unit("agent/test_publisher.py"),),
    ),
    Mutant(
        "publish-by-an-old-pool",
        "a block is published with reserved addresses of before its claim",
        f"{AGENT}/allocation.py",
        """    if pool.pool.generation < pool_generation:
""",
        """    if False:
""",
        (unit("agent/test_allocation.py"),),
    ),
    Mutant(
        "go-back-an-epoch",
        "an agent that reads late replaces a newer allocation file",
        f"{AGENT}/statedir.py",
        """            if standing and standing.outlasts(new):
                return standing
""",
        "",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "take-the-same-epoch-for-the-same-history",
        "a list from before a restore replaces the file of a later one that is lost, if their epochs are the same",
        f"{AGENT}/statedir.py",
        "(self.epoch > other.epoch or (self.epoch == other.epoch and self.question != other.question))",
        "self.epoch > other.epoch",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "publish-without-the-lock",
        "the file is replaced while an ADD works from the old one",
        f"{AGENT}/statedir.py",
        """        async with self.locked():
            standing, new = self._standing(), standing_of(document)
""",
        """        if True:
            standing, new = self._standing(), standing_of(document)
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "publish-before-rename",
        "the allocation file is written where it is read",
        f"{AGENT}/statedir.py",
        """        temporary = self.root / f".{path.name}.tmp"  # only one agent lives, so one name does
""",
        """        temporary = path
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "count-before-publishing",
        "the report of an epoch is counted while the plugin still has the file of the one before",
        f"{AGENT}/service.py",
        """            await self.publisher.publish(seen, self.pools.items, self.namespaces.items)
            self._trouble = None
        except KubeError as error:
            log.warning("NodeCIDR could not be read again", error=str(error))
            return RETRY_SECONDS
        except OSError as error:
            self._failed(error)
        # Counted after the publication: no address of a Draining block can be assigned any more.
        try:
            self.observation = await self._rewrite_damaged(await self._look())
""",
        """            self.observation = await self._look()
            await self.publisher.publish(seen, self.pools.items, self.namespaces.items)
            self._trouble = None
        except KubeError as error:
            log.warning("NodeCIDR could not be read again", error=str(error))
            return RETRY_SECONDS
        except OSError as error:
            self._failed(error)
        try:
            self.observation = await self._rewrite_damaged(self.observation)
""",
        (unit("agent/test_round.py"),),
    ),
    Mutant(
        "report-an-epoch-that-does-not-stand",
        "an agent that leaves a newer file alone reports its own epoch all the same",
        f"{AGENT}/publisher.py",
        """                log.warning("a newer allocation file stands: left alone", epoch=seen.epoch, standing=standing.epoch)
""",
        """                standing = standing_of(allocation.document)
""",
        (unit("agent/test_publisher.py"),),
    ),
    Mutant(
        "report-an-epoch-that-failed",
        "a full disk keeps the old file, but the report claims the new epoch",
        f"{AGENT}/statedir.py",
        """            raise OSError(error.errno, error.strerror, str(path)) from error  # a write tells no name
""",
        """            del error
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "report-without-uid",
        "a report lands on a NodeCIDR that was made again",
        f"{AGENT}/reporter.py",
        """            {"op": "test", "path": "/metadata/uid", "value": report.uid},
""",
        "",
        (unit("agent/test_reporter.py"),),
    ),
    Mutant(
        "refused-report-is-no-news",
        "a report that the server refuses, for the NodeCIDR is gone or another, has nothing read anew",
        f"{AGENT}/reporter.py",
        """        if foreign:
            self._on_foreign()
""",
        "",
        (unit("agent/test_reporter.py"),),
    ),
    Mutant(
        "another-uid-without-a-read",
        "an agent follows a NodeCIDR of another uid that only its cache knows",
        f"{AGENT}/service.py",
        """        if seen is None or standing is None or seen.uid in (standing.uid, self._uid):
""",
        """        if True:
""",
        (unit("agent/test_round.py"),),
    ),
    Mutant(
        "follow-what-is-gone",
        "an agent follows a NodeCIDR of another uid that the server has no more",
        f"{AGENT}/service.py",
        """        except NotFound:
            return None
        if obj""",
        """        except NotFound:
            return seen
        if obj""",
        (unit("agent/test_round.py"),),
    ),
    Mutant(
        "two-agents-at-once",
        "an agent does not wait for the one before it",
        f"{AGENT}/statedir.py",
        """        return _try_lock(self._agent_fd)
""",
        """        return True
""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "trust-a-lock-of-a-lost-directory",
        "the next agent begins beside the one that holds the directory made again",
        f"{AGENT}/statedir.py",
        """    if not state.is_ours():
        raise""",
        """    if False:
        raise""",
        (unit("agent/test_statedir.py"),),
    ),
    Mutant(
        "rebuild-nothing",
        "after a loss of the state dir nobody holds anything",
        f"{AGENT}/rebuild.py",
        """    return sum(_recover(state, one, state_id, now_seconds) for one in found)
""",
        """    return 0 * sum(1 for one in found)
""",
        (unit("agent/test_files.py"), simulation()),
    ),
    Mutant(
        "rebuild-without-what-cannot-be-seen",
        "after a loss of the state dir a container whose network namespace can't be looked at holds nothing",
        f"{AGENT}/rebuild.py",
        """    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        log""",
        """    except (OSError, ValueError) as error:
        return False
        log""",
        (unit("agent/test_rebuild.py"),),
    ),
    Mutant(
        "rewrite-half-a-record",
        "a damaged record is written anew without an address that it holds: no DEL frees that any more",
        f"{AGENT}/rebuild.py",
        """    if not held or status.st_nlink != len(held) + 1:""",
        """    if not held:""",
        (unit("agent/test_rebuild.py"),),
    ),
    Mutant(
        "rebuild-tried-once",
        "after a rebuild that a full disk stopped the plugin answers as if nobody had an address",
        f"{AGENT}/service.py",
        """        if self._rebuild_due:
            async with""",
        """        if self._rebuild_due:
            self._rebuild_due = False
            async with""",
        (unit("agent/test_round.py"),),
    ),
    Mutant(
        "remove-a-mark-that-lives",
        "the mark of an ADD that has just begun is taken for that of one that died",
        f"{AGENT}/reclaim.py",
        """                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
""",
        "",
        (unit("agent/test_files.py"),),
    ),
    Mutant(
        "reclaim-at-first-sight",
        "what looks leaked once is taken back",
        f"{AGENT}/reclaim.py",
        """            if since < now and now - since >= self._grace_seconds and await self._confirmed(found[key], observation):
""",
        """            if await self._confirmed(found[key], observation):
""",
        (unit("agent/test_files.py"),),
    ),
    Mutant(
        "reclaim-by-the-cache",
        "a pod that only the cache lacks loses its address",
        f"{AGENT}/reclaim.py",
        """        return not _needs(attachment, observed.pod(pod))
""",
        """        return True
""",
        (unit("agent/test_files.py"),),
    ),
    Mutant(
        "reclaim-of-another",
        "a leaked attachment's release frees an address that somebody else holds by now",
        f"{AGENT}/reclaim.py",
        """            ours = link.lstat().st_ino == inode
""",
        """            ours = link.exists() or inode
""",
        (unit("agent/test_files.py"),),
    ),
)
